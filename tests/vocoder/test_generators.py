"""Every trained vocoder: parity with public implementations (1e-4), batches, streaming, rates, refusals."""

import json

import pytest
import torch

from vocoder import network
from vocoder.bigvgan import BigVGAN, BigVGANConfig
from vocoder.hifigan import HiFiGAN, HiFiGANConfig
from vocoder.network import apply_weight_norm, remove_weight_norm
from vocoder.protocol import check_features
from vocoder.stft import istft
from vocoder.unit_hifigan import UnitHiFiGAN, UnitHiFiGANConfig
from vocoder.vocos import Vocos, VocosConfig

TOLERANCE = 1e-4
SLIM = {"channels": 16, "dim": 12}
MODELS = {
    "hifigan-knnvc": lambda: HiFiGAN(HiFiGANConfig(projection=8, **SLIM)),
    "hifigan-v2": lambda: HiFiGAN(HiFiGANConfig.v2(**SLIM)),
    "hifigan-v3": lambda: HiFiGAN(HiFiGANConfig.v3(**SLIM)),
    "hifigan-24k": lambda: HiFiGAN(HiFiGANConfig.v2(**SLIM).at_rate(24_000)),
    "hifigan-44k": lambda: HiFiGAN(HiFiGANConfig.v2(**SLIM).at_rate(44_100)),
    "hifigan-48k": lambda: HiFiGAN(HiFiGANConfig.v2(**SLIM).at_rate(48_000)),
    "bigvgan-2": lambda: BigVGAN(BigVGANConfig.v1(**SLIM)),
    "bigvgan-1": lambda: BigVGAN(BigVGANConfig.v1(**SLIM, snake_beta=False, tanh=True, final_bias=True)),
    "bigvgan-3": lambda: BigVGAN(BigVGANConfig.v3(**SLIM, log_scale=False)),
    "vocos": lambda: Vocos(VocosConfig(dim=12, width=16, ffn_dim=32, depth=3)),
    "vocos-center": lambda: Vocos(VocosConfig(dim=12, width=16, ffn_dim=32, depth=3, padding="center")),
    "vocos-24k": lambda: Vocos(VocosConfig(dim=12, width=16, depth=2, n_fft=1920, hop=480, sample_rate=24_000)),
    "vocos-44k": lambda: Vocos(VocosConfig(dim=12, width=16, depth=2, n_fft=3528, hop=882, sample_rate=44_100)),
    "vocos-48k": lambda: Vocos(VocosConfig(dim=12, width=16, depth=2, n_fft=3840, hop=960, sample_rate=48_000)),
    "vocos-harmonic": lambda: Vocos(VocosConfig(dim=12, width=16, depth=2, n_fft=512, spectra=2, harmonic=True)),
    "hifigan-harmonic": lambda: HiFiGAN(HiFiGANConfig.v2(**SLIM, harmonic=True)),
    "hifigan-harmonic-44k": lambda: HiFiGAN(HiFiGANConfig.v2(**SLIM, harmonic=True).at_rate(44_100)),
    "unit-hifigan": lambda: UnitHiFiGAN(UnitHiFiGANConfig(channels=32, pitch="hertz", speaker_vector=10)),
}


def scale_weights(network):
    """Scale weights so that every layer affects the output."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.7 / parameter.flatten(1).norm(dim=1).mean().clamp(min=1e-9))
            elif name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(1)
    return scale_weights(MODELS[request.param]())


def some_frames(model, count, batch=1):
    frames = torch.randn(batch, count, model.dim)
    if getattr(model.config, "harmonic", False):
        frames[..., 0] = 5 + 0.2 * frames[..., 0]  # about 150 Hz
    if isinstance(model, UnitHiFiGAN):
        frames[..., 0] = torch.randint(0, 100, (batch, count))
        frames[..., 1] = torch.rand(batch, count) * 300
    return frames


# ---- parity


def saved(case, tmp_path, name, **inside):
    torch.save(inside or case.weights, tmp_path / name)
    (tmp_path / "config.json").write_text(json.dumps(case.config))
    return tmp_path / name


def test_hifigan_of_knnvc(golden, tmp_path):
    case = golden("knnvc_hifigan_generator")
    model = HiFiGAN.from_foreign(saved(case, tmp_path, "g.pt", generator=case.weights))
    assert not any("weight_" in key for key in model.state_dict())
    with torch.no_grad():
        wav = model(case.input["features"])
    assert (wav - case.output["wav"][:, 0]).abs().max() < TOLERANCE / 10
    assert (wav - case.output["wav_no_weight_norm"][:, 0]).abs().max() < TOLERANCE / 10
    assert model.reads == {"kind": "ssl", "layer": 6, "normalized": False}
    (tmp_path / "config.json").unlink()  # as published: the file alone
    for config in (None, case.config, model.config):
        assert HiFiGAN.from_foreign(tmp_path / "g.pt", config=config).config == model.config


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_bigvgan(golden, tmp_path, version):
    case = golden(f"bigvgan_generator_{version}")
    model = BigVGAN.from_foreign(saved(case, tmp_path, "bigvgan_generator.pt", generator=case.weights))
    assert (model.config.snake_beta, model.config.tanh) == ((False, True) if version == "v1" else (True, False))
    with torch.no_grad():
        wav = model(case.input["mel"].transpose(1, 2))
        activated = model.resblocks[0].activations[0](case.input["probe"])
    assert (activated - case.output["act0"]).abs().max() < TOLERANCE / 10
    assert (wav - case.output["wav"][:, 0]).abs().max() < TOLERANCE / 10
    assert BigVGAN.from_foreign(tmp_path).config == model.config
    assert BigVGAN.from_foreign(tmp_path, config=model.config).config == model.config
    filters = [value for key, value in case.weights.items() if key.endswith(".filter")]
    assert all((model.activation_post.filter - value).abs().max() < 1e-6 for value in filters)


def test_vocos(golden, tmp_path):
    case = golden("vocos_generator")
    weights = {key.split(".", 1)[1]: value for key, value in case.weights.items() if "istft" not in key}
    shape = case.config
    for padding in ("same", "center"):
        config = VocosConfig(dim=20, width=32, ffn_dim=64, depth=3, n_fft=64, hop=16, padding=padding)
        model = Vocos.from_weights(config, weights)
        frames = case.input["features"].transpose(1, 2)
        golden_wav = case.output[f"wav_{padding}"]
        with torch.no_grad():
            assert (model.backbone(frames) - case.output["backbone"]).abs().max() < TOLERANCE
            wav = model(frames)
        assert wav.shape == (1, shape["frames"] * 16)
        assert (wav[:, : golden_wav.shape[1]] - golden_wav).abs().max() < TOLERANCE / 5
        spectra = torch.complex(case.input["spec_real"], case.input["spec_imag"]).transpose(1, 2)
        alone = istft(spectra, model.window, 16, padding)
        wanted = case.output[f"istft_{padding}"]
        assert (alone[:, : wanted.shape[1]] - wanted).abs().max() < TOLERANCE / 5


def test_vocos_as_published(golden, tmp_path):
    case = golden("vocos_generator")
    torch.save(case.weights | {"feature_extractor.mel_spec.window": torch.ones(3)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.yaml").write_text(
        "feature_extractor: {init_args: {sample_rate: 24000, n_fft: 64, hop_length: 16, n_mels: 20, padding: center}}\n"
        "backbone: {init_args: {dim: 32}}\nhead: {init_args: {dim: 32, n_fft: 64, hop_length: 16, padding: center}}\n"
    )
    model = Vocos.from_foreign(tmp_path)
    with torch.no_grad():
        wav = model(case.input["features"].transpose(1, 2))
    assert (wav[:, :624] - case.output["wav_center"]).abs().max() < TOLERANCE / 5
    assert (model.sample_rate, model.reads["scale"], model.reads["bands"]) == (24_000, "htk", 20)


def test_full_size_keys(golden, tmp_path):
    """kNN-VC's released file has these names and shapes, 16.5 M numbers."""
    shapes = golden("shapes_knnvc_hifigan_generator").shapes
    weights = {key: torch.full(shape, 0.01) for key, shape in shapes.items()}
    torch.save({"generator": weights}, tmp_path / "prematch_g_02500000.pt")
    model = HiFiGAN.from_foreign(tmp_path / "prematch_g_02500000.pt")
    assert model.config == HiFiGANConfig(reads=model.reads)
    assert (model.sample_rate, model.hop_length, model.dim) == (16_000, 320, 1024)


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_hifigan_as_published(tmp_path, version):
    """jik876's files: no suffix, weight norm, 22 kHz mel; version 3 calls its convolutions `convs`."""
    shape = {"rates": (8, 8, 4), "kernels": (16, 16, 8)} if version == "v3" else {"rates": (8, 8, 2, 2)}
    if version != "v3":
        shape["kernels"] = (16, 16, 4, 4)
    model = scale_weights(HiFiGAN(getattr(HiFiGANConfig, version)(channels=32, **shape)))
    frames = some_frames(model, 9)
    weights = {}
    for key, value in model.state_dict().items():
        name = key.replace("convs1.", "convs.") if version == "v3" else key
        if key.endswith("weight"):
            weights[f"{name}_g"] = value.flatten(1).norm(dim=1).view(-1, 1, 1)
            weights[f"{name}_v"] = value * 3.0
        else:
            weights[name] = value
    torch.save({"generator": weights}, tmp_path / "generator")
    again = HiFiGAN.from_foreign(tmp_path / "generator")
    assert (again.sample_rate, again.hop_length, again.reads["kind"]) == (22_050, 256, "mel")
    with torch.no_grad():
        assert torch.allclose(again(frames), model(frames), atol=1e-6)


# ---- what every vocoder must do


def test_shape_and_range(model):
    with torch.no_grad():
        wav = model(some_frames(model, 7, batch=2))
    assert wav.shape == (2, 7 * model.hop_length)
    assert model.hop_length == model.sample_rate // 50
    assert torch.isfinite(wav).all()
    assert wav.std() > 1e-3


def test_rows_are_as_if_alone(model):
    frames, lengths = some_frames(model, 20, batch=3), torch.tensor([20, 7, 13])
    with torch.no_grad():
        together = model(frames, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(frames[row : row + 1, :length])[0]
            assert (together[row, : len(alone)] - alone).abs().max() < TOLERANCE
            assert not together[row, len(alone) :].any()


def test_pieces_are_as_the_whole(model, monkeypatch):
    monkeypatch.setattr(network, "CORE", 40)
    frames = some_frames(model, 2 * 40 + 3 * model.context + 17)
    with torch.no_grad():
        whole = model(frames)[0]
    assert (model.synthesize(frames[0]) - whole).abs().max() < TOLERANCE
    pieces = list(model.stream(frames[0].split(31)))
    assert len(pieces) > 1
    assert (torch.cat(pieces) - whole).abs().max() < TOLERANCE


def test_context_is_wide_enough_and_hardly_wider(model):
    """A change in one frame has effects within the context, and nearly to its end (the last may underflow)."""
    count = 2 * model.context + 41
    frames = some_frames(model, count)
    with torch.no_grad():
        model.double()
        before = model(frames.double())
        changed = frames.double().clone()
        harmonic = getattr(model.config, "harmonic", False)  # a change of F0 shifts all later phases
        changed[:, count // 2, harmonic : 2 + harmonic] = 5.0
        affected = (model(changed) - before)[0].view(count, -1).abs().amax(1).nonzero()[:, 0]
    radius = max(count // 2 - int(affected.min()), int(affected.max()) - count // 2)
    assert radius <= model.context <= radius + 4


def test_save_and_load(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert again.config == model.config
    frames = some_frames(model, 5)
    with torch.no_grad():
        assert torch.equal(again(frames), model(frames))


def test_weight_norm_folds(model):
    frames = some_frames(model, 5)
    with torch.no_grad():
        before = model(frames)
        keys = set(model.state_dict())
        apply_weight_norm(model)
        assert set(model.state_dict()) != keys
        remove_weight_norm(model)
        assert (model(frames) - before).abs().max() < TOLERANCE
    assert set(model.state_dict()) == keys


def test_bfloat16(model):
    """Weights in bfloat16, frames unconverted (bfloat16 cannot represent unit 999), output in float32."""
    frames = some_frames(model, 30)
    with torch.no_grad():
        exact = model(frames)[0]
    rough = model.bfloat16().synthesize(frames[0])
    assert rough.dtype == torch.float32
    assert torch.corrcoef(torch.stack([exact, rough]))[0, 1] > 0.95


# ---- units


def test_units_need_their_streams():
    model = MODELS["unit-hifigan"]()
    units = torch.randint(0, 100, (2, 8))
    frames = model.frames(units, torch.rand(2, 2) * 200, torch.randn(2, 10))
    assert frames.shape == (2, 8, 12)
    assert torch.equal(frames[:, :, 1], frames[:, ::4, 1].repeat_interleave(4, dim=1))
    with pytest.raises(ValueError, match="pitch was not given"):
        model.frames(units, None, torch.randn(2, 10))
    with pytest.raises(ValueError, match="one was not given"):
        model.frames(units, torch.rand(2, 8))
    frames[0, 0, 0] = 100
    with pytest.raises(ValueError, match="knows 0 to 99"):
        model(frames)


def test_unit_embeddings_affect_the_output():
    torch.manual_seed(0)
    model = scale_weights(UnitHiFiGAN(UnitHiFiGANConfig(channels=32, pitch="codes", speakers=3)))
    units = torch.randint(0, 100, (1, 12))
    with torch.no_grad():
        first, higher, other = (
            model(model.frames(units, torch.full((1, 3), pitch), torch.tensor([speaker])))
            for pitch, speaker in ((2, 0), (9, 0), (2, 1))
        )
    assert (first - higher).abs().max() > 1e-4
    assert (first - other).abs().max() > 1e-4
    for pitch, speaker, sentence in (
        (20, 0, "pitch codes range from 20"),
        (2, 3, "speakers range from 3 to 3; .* to 2"),
    ):
        with pytest.raises(ValueError, match=sentence):
            model(model.frames(units, torch.full((1, 3), pitch), torch.tensor([speaker])))


# ---- refusals


def test_other_features_are_refused():
    reads = {"kind": "ssl", "encoder": "ab", "layer": 6}
    check_features(reads, reads | {"dim": 4})
    with pytest.raises(ValueError, match=r"x\.wav does not fit this vocoder: layer is 5 where 6 is wanted; extract"):
        check_features(reads, reads | {"layer": 5}, "x.wav")


def test_no_frames_are_refused():
    model = MODELS["vocos"]()
    for shape in ((0, 4, 12), (2, 0, 12)):
        with pytest.raises(ValueError, match="at least one row and one frame"):
            model(torch.zeros(shape))
    for shape, sentence in (
        ((0, 12), "no frames"),
        ((1, 4, 12), "are \\(frames, 12\\)"),
        ((4, 13), "are \\(frames, 12\\)"),
    ):
        with pytest.raises(ValueError, match=sentence):
            model.synthesize(torch.zeros(shape))


@pytest.mark.parametrize(
    ("shape", "lengths", "sentence"),
    [
        ((1, 4, 13), None, "reads \\(batch, frames, 12\\)"),
        ((4, 12), None, "reads \\(batch, frames, 12\\)"),
        ((2, 4, 12), [4], "2 rows need"),
        ((1, 4, 12), [5], "from 1 to 4"),
        ((1, 4, 12), [0], "from 1 to 4"),
    ],
)
def test_wrong_frames_are_refused(shape, lengths, sentence):
    with pytest.raises(ValueError, match=sentence):
        MODELS["vocos"]()(torch.zeros(shape), None if lengths is None else torch.tensor(lengths))


@pytest.mark.parametrize(
    ("config", "settings", "sentence"),
    [
        (HiFiGANConfig, {"rates": (10, 8)}, "as many kernels"),
        (HiFiGANConfig, {"kernels": (21, 16, 4, 4)}, "even number"),
        (HiFiGANConfig, {"block": 3}, "1 and 2"),
        (HiFiGANConfig, {"block_kernels": (3,)}, "lists of dilations"),
        (HiFiGANConfig, {"channels": 24}, "halved 4 times"),
        (HiFiGANConfig, {"channels": "many"}, "of type int"),
        (HiFiGANConfig, {"dim": 0}, "at least 1"),
        (HiFiGANConfig, {"block_kernels": [None, 7, 11]}, "of whole numbers"),
        (HiFiGANConfig, {"dilations": [1, 3, 5]}, "nested as"),
        (VocosConfig, {"padding": "left"}, "'same' and 'center'"),
        (VocosConfig, {"n_fft": 400}, "twice the hop"),
        (UnitHiFiGANConfig, {"pitch": "notes"}, "'codes' and 'hertz'"),
        (UnitHiFiGANConfig, {"speakers": 2, "speaker_vector": 3}, "not both"),
        (UnitHiFiGANConfig, {"dim": 7}, "add up to 1"),
    ],
)
def test_wrong_shapes_are_refused(config, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        config(**settings)
    with pytest.raises(ValueError, match="16000, 24000"):
        HiFiGANConfig().at_rate(32_000)


def test_wrong_files_are_refused(tmp_path):
    file = tmp_path / "g.pt"
    with pytest.raises(ValueError, match="does not exist"):
        HiFiGAN.from_foreign(file)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        HiFiGAN.from_foreign(file)
    torch.save({"generator": {"conv_pre.weight": torch.zeros(2, 2, 2)}}, file)
    with pytest.raises(ValueError, match="HiFi-GAN family"):
        HiFiGAN.from_foreign(file)
    torch.save({"epoch": 3}, file)
    with pytest.raises(ValueError, match="does not hold the weights"):
        BigVGAN.from_foreign(file)
    MODELS["vocos"]().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match="has no weights"):
        Vocos.from_pretrained(tmp_path / "model")
