"""Truths about the encoder that need nobody else's code."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain import EncoderConfig, SpeechEncoder, WeightedSum
from pretrain.encoder.frontend import KERNELS, STRIDES, strided_conv

SMALL = {"conv_dim": 16, "dim": 32, "depth": 3, "heads": 4, "ffn_dim": 64, "pos_kernel": 8, "pos_groups": 4}
KINDS = {
    "hubert-base": EncoderConfig.hubert_base(**SMALL),
    "hubert-large": EncoderConfig.hubert_large(**SMALL),
    "wavlm-base": EncoderConfig.wavlm_base(**SMALL),
    "wavlm-large": EncoderConfig.wavlm_large(**SMALL, matching_layer=2),
    "wav2vec2-large": EncoderConfig.wav2vec2_large(**SMALL),
    "base, normalised": EncoderConfig.hubert_base(**SMALL, normalized=True),
    "log-mel": EncoderConfig.tiny(**SMALL),
    "log-mel, gated": EncoderConfig.tiny(**SMALL, gated_bias=True),
    "conformer": EncoderConfig.tiny(**SMALL, context="conformer", conv_kernel=5),
    "cpc": EncoderConfig.cpc(**SMALL),
    "cpc, lstm": EncoderConfig.cpc(**SMALL, context="lstm"),
    "wav2vec": EncoderConfig.wav2vec(**SMALL),
    "stack": EncoderConfig(**SMALL, frontend="stack", causal=True, position="none", pre_norm=True),
    "stack, conformer": EncoderConfig(**SMALL, frontend="stack", causal=True, position="none", context="conformer"),
}


@pytest.fixture(params=KINDS)
def encoder(request):
    torch.manual_seed(0)
    return SpeechEncoder(KINDS[request.param]).eval()


def speech(*shape):
    torch.manual_seed(1)
    return torch.randn(*shape) * 0.2


def test_frames_as_announced(encoder):
    with torch.inference_mode():
        for samples in (400, 719, 720, 721, 1039, 1040, 16_000, 16_320):
            layers = encoder.layers(speech(1, samples))
            assert len(layers) == 4
            assert layers[0].shape == layers[-1].shape == (1, encoder.num_frames(samples), 32)


@given(st.integers(0, 10_000_000))
@settings(deadline=None)
def test_the_arithmetic_of_frames_is_the_convolutions_own(samples):
    count = samples
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        count = max((count - kernel) // stride + 1, 0)
    encoder = SpeechEncoder(KINDS["log-mel"])
    assert encoder.num_frames(samples) == count == encoder.num_frames(torch.tensor([samples])).item()


def test_one_second_is_49_frames():
    encoder = SpeechEncoder(KINDS["log-mel"])
    assert [encoder.num_frames(n) for n in (0, 399, 400, 16_000, 16_320)] == [0, 0, 1, 49, 50]


def test_a_row_is_what_it_is_alone(encoder):
    wav, lengths = speech(3, 9_000), torch.tensor([9_000, 6_000, 400])
    wav[1, 6_000:] = 5.0  # what stands behind a row's end must not matter
    with torch.inference_mode():
        together = encoder.layers(wav, lengths)
        for row, length in enumerate(lengths.tolist()):
            for batched, alone in zip(together, encoder.layers(wav[row : row + 1, :length]), strict=True):
                torch.testing.assert_close(batched[row, : alone.shape[1]], alone[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("behind", [float("nan"), float("inf"), 1e20])
def test_nothing_behind_a_rows_end_matters(encoder, behind):
    wav, lengths = speech(2, 9_000), torch.tensor([9_000, 6_000])
    wav[1, 6_000:] = behind
    with torch.inference_mode():
        assert encoder(wav, lengths)[:, : encoder.num_frames(6_000)].isfinite().all()


@pytest.mark.parametrize("cutoff", [8_000, 4_000, 2_000])
def test_group_norm_is_exact_where_the_sound_has_no_energy(cutoff):
    """Filters above a telephone's band see next to nothing: their variance must not drown in rounding."""
    torch.manual_seed(0)
    encoder = SpeechEncoder(EncoderConfig.hubert_base(**SMALL, normalized=True)).eval()
    layer = encoder.frontend.layers[0]
    time = torch.arange(10) - 4.5  # band-pass filters up to 8 kHz, such as these encoders learn
    tones = torch.cos(torch.pi * torch.linspace(0.02, 0.98, 16)[:, None] * time) * torch.hann_window(12)[1:-1]
    layer.weight.data = tones[:, None].clone()
    spectrum = torch.fft.rfft(speech(1, 48_000))
    spectrum[:, torch.fft.rfftfreq(48_000, 1 / 16_000) > cutoff] = 0
    wav = torch.fft.irfft(spectrum)
    with torch.inference_mode():
        statistics = encoder.statistics(wav)
        got = layer((wav - statistics.shift)[:, :, None] * statistics.scale, statistics.moments)
        exact = wav.double() - wav.double().mean()
        exact = exact * (exact.var(correction=0) + 1e-5).rsqrt()
        want = F.gelu(F.instance_norm(F.conv1d(exact[:, None], layer.weight.double(), stride=5))).transpose(1, 2)
    assert (got - want).abs().max() < 1e-4


@pytest.mark.parametrize("where", ["dropout", "attention_dropout", "activation_dropout"])
def test_each_dropout_acts_in_training_only(where):
    off = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layer_drop": 0.0}
    torch.manual_seed(0)
    encoder = SpeechEncoder(replace(KINDS["log-mel"], **off | {where: 0.5}))
    wav = speech(1, 4_000)
    assert not torch.equal(encoder(wav), encoder(wav))
    if where == "dropout":  # it stands behind the projection too
        assert (encoder.project_dropout(torch.ones(1_000)) == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    encoder.eval()
    assert torch.equal(encoder(wav), encoder(wav))


def test_extraction_stops_at_the_layer(encoder):
    wav = speech(1, 4_000)
    with torch.inference_mode():
        everything = encoder.layers(wav)
        assert len(encoder.layers(wav, upto=1)) == 2
        for n in range(4):
            assert torch.equal(encoder(wav, layer=n), everything[n])
        encoder.transformer.blocks[2] = None  # would fail if it were called
        assert torch.equal(encoder(wav, layer=2), everything[2])


def test_a_pre_norm_encoder_gives_its_normed_output(encoder):
    wav = speech(1, 4_000)
    with torch.inference_mode():
        last, output = encoder(wav, layer=3), encoder(wav)
        expected = encoder.transformer.norm(last) if encoder.config.pre_norm else last
    torch.testing.assert_close(output, expected)


def test_reading_in_chunks_changes_nothing(encoder):
    """Without gradients a CPU goes through the convolutions in chunks of 100 frames."""
    wav = speech(2, 90_000)
    with torch.no_grad():
        chunked = encoder.features(wav)
    torch.testing.assert_close(chunked, encoder.features(wav).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["log-mel", "hubert-large"])
def test_a_mask_hides_what_it_covers(kind):
    torch.manual_seed(0)
    encoder = SpeechEncoder(replace(KINDS[kind], normalized=False)).eval()
    wav = speech(1, 16_000)
    other = wav.clone()
    other[:, 4_000:8_000] = 0.5 * speech(1, 4_000).flip(1)
    mask = torch.zeros(1, 49, dtype=torch.bool)
    mask[:, 8:28] = True  # frames that see any of the changed samples
    with torch.inference_mode():
        assert not torch.allclose(encoder(wav), encoder(other), atol=1e-3)
        torch.testing.assert_close(encoder(wav, mask=mask), encoder(other, mask=mask))


def test_scale_does_not_matter_to_normalised_input():
    torch.manual_seed(0)
    encoder = SpeechEncoder(KINDS["hubert-large"]).eval()
    wav = speech(1, 8_000)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(wav), encoder(wav * 3 + 0.1), atol=1e-3, rtol=1e-3)


def test_windows_know_the_statistics_of_the_whole():
    torch.manual_seed(0)
    encoder = SpeechEncoder(KINDS["base, normalised"]).eval()
    wav = speech(1, 32_000) * torch.linspace(0.1, 1, 32_000)  # the second half is louder
    with torch.inference_mode():
        whole = encoder.features(wav)
        window = encoder.features(wav[:, 16_000:], statistics=encoder.statistics(wav))
        torch.testing.assert_close(window, whole[:, 50:], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(encoder.features(wav[:, 16_000:]), whole[:, 50:], atol=1e-2)


def test_log_mel_shows_a_tone_in_its_band_and_its_level():
    frontend = SpeechEncoder(KINDS["log-mel"]).frontend
    tone = torch.sin(2 * torch.pi * 1_000 * torch.arange(16_000) / 16_000)[None]
    mel = frontend.log_mel(0.1 * tone)
    assert mel.shape == (1, 98, 80)
    edges = 700 * (10 ** (torch.linspace(0, 2840.0377, 82) / 2595) - 1)  # 0 to 8 kHz
    band = int(mel[0, 50].argmax())
    assert edges[band] < 1_000 < edges[band + 2]
    louder = frontend.log_mel(0.2 * tone)[0, 50, band] - mel[0, 50, band]
    assert louder.item() == pytest.approx(math.log(4.0) / 4.0, abs=1e-3)  # four times the power, scaled by 1/4


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (3, 2), (2, 2), (3, 1)])
def test_strided_conv_is_a_convolution(kernel, stride):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 57, 6), torch.randn(9, 6, kernel), torch.randn(9)
    expected = F.conv1d(x.transpose(1, 2), weight, bias, stride).transpose(1, 2)
    torch.testing.assert_close(strided_conv(x, weight, bias, stride), expected, atol=1e-5, rtol=1e-5)
    # what it learns from goes another way
    learned = [each.double().requires_grad_() for each in (x[:, :41, :4], weight[:5, :4], bias[:5])]
    learned[0] = learned[0].detach().contiguous().requires_grad_()
    assert torch.autograd.gradcheck(lambda *parts: strided_conv(*parts, stride), learned)
    with torch.autocast("cpu", torch.bfloat16):
        rough = strided_conv(x.requires_grad_(), weight, bias, stride)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), expected, atol=0.05, rtol=0.05)


def test_every_weight_learns(encoder):
    encoder.train()
    mask = torch.zeros(2, 24, dtype=torch.bool)
    mask[:, 3:9] = True
    encoder.transformer.layer_drop = 0.0
    encoder(speech(2, 8_000), mask=mask).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        if not name.endswith("key.bias"):  # softmax does not notice a bias of the keys
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_layer_drop_skips_blocks_in_training_only():
    torch.manual_seed(0)
    encoder = SpeechEncoder(replace(KINDS["log-mel"], layer_drop=1.0, dropout=0.0, attention_dropout=0.0))
    layers = encoder.train().layers(speech(1, 4_000))
    assert torch.equal(layers[0], layers[3])
    layers = encoder.eval().layers(speech(1, 4_000))
    assert not torch.equal(layers[0], layers[3])


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_saved_and_loaded(encoder, tmp_path, dtype):
    if dtype:
        encoder.to(dtype)  # small files: read back as float32 of the same values
    encoder.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["depth"] == 3
    loaded = SpeechEncoder.from_pretrained(tmp_path)
    assert loaded.config == encoder.config
    assert loaded.fingerprint(2) == encoder.fingerprint(2)
    encoder.float()
    with torch.inference_mode():
        assert torch.equal(loaded(speech(1, 4_000)), encoder(speech(1, 4_000)))


def test_bad_folders_are_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        SpeechEncoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="has no weights that fit its config"):
        SpeechEncoder.from_pretrained(tmp_path)
    SpeechEncoder(KINDS["log-mel"]).save_pretrained(tmp_path)
    smaller = json.loads((tmp_path / "config.json").read_text()) | {"conv_dim": 8}
    (tmp_path / "config.json").write_text(json.dumps(smaller))
    with pytest.raises(ValueError, match=r"the weight feature_norm\.bias has shape \(16,\); .* requires \(8,\)"):
        SpeechEncoder.from_pretrained(tmp_path)
    for text in ("{", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config\.json (is broken|holds a list)"):
            SpeechEncoder.from_pretrained(tmp_path)
    assert capsys.readouterr().out == ""


def test_fingerprint_tells_encoders_and_layers_apart():
    torch.manual_seed(0)
    encoder = SpeechEncoder(KINDS["wavlm-large"])
    names = [encoder.fingerprint(n) for n in range(4)]
    assert len(set(names)) == 4
    assert encoder.first_layers(2).fingerprint(2) == names[2]
    with torch.no_grad():
        encoder.transformer.blocks[2].widen.bias[0] += 1e-3
    assert [encoder.fingerprint(n) == names[n] for n in range(4)] == [True, True, True, False]


def test_fingerprints_stay_what_they_are():
    """AudioFiles carry them, so no later version may change this one."""
    encoder = SpeechEncoder(KINDS["wavlm-large"])
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_((torch.arange(parameter.numel()) % 7 - 3).view(parameter.shape) / 8)
    assert encoder.fingerprint(2) == "6c26a2ed4ae3fa57"
    assert SpeechEncoder(replace(KINDS["wavlm-large"], heads=2)).fingerprint(0) != encoder.fingerprint(0)


def test_loading_does_not_draw_random_numbers(tmp_path, encoder):
    encoder.save_pretrained(tmp_path)
    state = torch.random.get_rng_state()
    SpeechEncoder.from_pretrained(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_first_layers_share_weights(encoder):
    short = encoder.first_layers(2)
    assert short.config.depth == 2
    assert not short.training
    with torch.inference_mode():
        assert torch.equal(short(speech(1, 4_000), layer=2), encoder(speech(1, 4_000), layer=2))
    assert short.project.weight.data_ptr() == encoder.project.weight.data_ptr()
    short.to(torch.bfloat16)
    assert encoder.project.weight.dtype == torch.float32


def test_added_blocks_leave_the_layers_below_as_they_are(encoder):
    deeper, wav = encoder.with_blocks(5), speech(1, 4000)
    assert deeper.config.depth == 5 and not deeper.training
    with torch.inference_mode():
        for mine, theirs in zip(encoder.layers(wav), deeper.layers(wav, upto=3), strict=True):
            assert torch.equal(mine, theirs)


def test_bfloat16_stays_near(encoder):
    wav = speech(1, 16_000)
    with torch.inference_mode():
        full = encoder(wav, layer=3)
        half = encoder.to(torch.bfloat16)(wav, layer=3)
    assert half.dtype == torch.bfloat16
    assert torch.cosine_similarity(full, half.float(), dim=-1).min() > 0.99


def test_weighted_sum():
    layers = [torch.full((1, 2, 3), float(n)) for n in range(4)]
    mix = WeightedSum(depth=3)
    torch.testing.assert_close(mix(layers), torch.full((1, 2, 3), 1.5))
    with torch.no_grad():
        mix.weights[3] = 50.0
    torch.testing.assert_close(mix(layers), layers[3])
    mix(layers).sum().backward()
    assert mix.weights.grad is not None
    with pytest.raises(ValueError, match="got 2 layers; this sum weighs 4"):
        mix(layers[:2])


def test_weighted_sum_of_normalised_layers():
    torch.manual_seed(0)
    layer = torch.randn(1, 5, 8)
    mixed = WeightedSum(depth=1, normalized=True)([layer, 100 * layer])
    torch.testing.assert_close(mixed, F.layer_norm(layer, (8,)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("wav", "arguments", "sentence"),
    [
        (torch.zeros(16_000), {}, r"shape \(16000,\); it must be \(batch, samples\)"),
        (torch.zeros(1, 399), {}, "399 samples is too short; one frame needs 400"),
        (torch.zeros(2, 800), {"lengths": torch.tensor([800, 10])}, "10 samples is too short"),
        (torch.zeros(2, 800), {"lengths": torch.tensor([800])}, r"a batch of 2 needs \(2,\)"),
        (torch.zeros(1, 800), {"lengths": torch.tensor([900])}, "holds 900, but wav has only 800"),
        (torch.zeros(1, 800), {"layer": 4}, "layer is 4; this encoder has layers 0 to 3"),
        (torch.zeros(1, 800), {"layer": -1}, "layer is -1"),
    ],
)
def test_wrong_input_is_refused(wav, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        SpeechEncoder(KINDS["log-mel"])(wav, **arguments)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"frontend": "mel"}, "frontend is 'mel'; possible are conv, log_mel, stack"),
        ({"conv_norm": "batch"}, "possible are group, layer"),
        ({"heads": 5}, "cannot be divided into heads 5"),
        ({"depth": -1}, "depth is -1"),
        ({"dim": 0}, "dim is 0"),
        ({"dim": "768"}, "dim is '768'; it must be int"),
        ({"dim": True}, "dim is True; it must be int"),
        ({"dropout": None}, "dropout is None; it must be int or float"),
        ({"conv_dim": [512] * 7}, "it must be int"),
        ({"context": "rnn"}, "possible are transformer, conformer, gru, lstm, conv"),
        ({"context": "gru"}, "context gru sees no later frames; set causal to true"),
        ({"causal": True}, "causal needs a frontend that sees no later frames"),
        ({"conv_kernel": 4}, "conv_kernel is 4; it must be odd"),
        ({"matching_layer": 13}, "matching_layer is 13; possible are 0 to depth 12"),
    ],
)
def test_wrong_shape_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        EncoderConfig(**changes)


def test_published_sizes():
    """Parameters of the published encoders, counted without their pretraining heads."""
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in SpeechEncoder(config).parameters()) / 1e6
            for name, config in {
                "hubert base": EncoderConfig.hubert_base(),
                "wavlm base": EncoderConfig.wavlm_base(),
                "wavlm large": EncoderConfig.wavlm_large(),
            }.items()
        }
    assert sizes == pytest.approx({"hubert base": 94.37, "wavlm base": 94.38, "wavlm large": 315.45}, abs=0.01)


@pytest.mark.parametrize("kind", ["hubert-base", "wavlm-large", "log-mel", "conformer"])
@pytest.mark.parametrize("chunk", [3, 8])
def test_in_chunks_a_frame_sees_nothing_beyond_its_chunk(kind, chunk):
    torch.manual_seed(0)
    encoder = SpeechEncoder(KINDS[kind]).eval()
    features = torch.randn(2, 30, 16)
    changed = features.clone()
    changed[:, 16:] = torch.randn(2, 14, 16)
    with torch.inference_mode():
        before, after = (torch.stack(encoder.encode(each, chunk=chunk)) for each in (features, changed))
        whole = torch.stack(encoder.encode(features))
    seen = 16 // chunk * chunk  # the chunk that frame 16 is in begins there
    assert torch.equal(before[:, :, :seen], after[:, :, :seen])
    assert not torch.isclose(before[-1, :, seen:], after[-1, :, seen:]).all(-1).any()
    # and up to there it is what the encoder returns for a clip that ends there
    with torch.inference_mode():
        alone = torch.stack(encoder.encode(features[:, :chunk]))
        torch.testing.assert_close(before[:, :, :chunk], alone, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(torch.stack(encoder.encode(features, chunk=30)), whole, atol=1e-5, rtol=1e-4)


def test_chunks_and_padding_go_together():
    torch.manual_seed(0)
    encoder, features = SpeechEncoder(KINDS["log-mel"]).eval(), torch.randn(2, 20, 16)
    with torch.inference_mode():
        batch = encoder.encode(features, torch.tensor([20, 13]), chunk=4)[-1]
        alone = encoder.encode(features[1:, :13], chunk=4)[-1]
    torch.testing.assert_close(batch[1, :13], alone[0], atol=1e-5, rtol=1e-4)
