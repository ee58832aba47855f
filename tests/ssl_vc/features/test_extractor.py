import json
import os
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import ssl_vc
from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc.features.extractor import (
    CONTEXT,
    CORE,
    Extractor,
    FrameSpec,
    choose_device,
    plan_windows,
    read_frames,
    write_frames,
)

SMALL = {"conv_dim": 16, "dim": 32, "depth": 3, "heads": 4, "ffn_dim": 64}
KINDS = {
    "wavlm-base": EncoderConfig.wavlm_base(**SMALL, matching_layer=2),
    "wavlm-large": EncoderConfig.wavlm_large(**SMALL | {"matching_layer": 2}),
    "hubert-base, normalised": EncoderConfig.hubert_base(**SMALL, normalized=True, matching_layer=2),
    "log-mel": EncoderConfig.tiny(**SMALL, matching_layer=2),
}


@pytest.fixture(params=KINDS)
def encoder(request):
    torch.manual_seed(0)
    return SpeechEncoder(KINDS[request.param]).eval()


def voice(seconds, seed=0):
    """Something with the slow rise and fall of speech."""
    generator = torch.Generator().manual_seed(seed)
    samples = int(seconds * 16_000)
    noise = torch.randn(samples, generator=generator)
    return 0.2 * noise * (1.2 + torch.sin(torch.arange(samples) * 2 * torch.pi * 3 / 16_000))


@given(st.integers(1, 20_000), st.integers(1, 500), st.integers(0, 64))
@settings(deadline=None)
def test_windows_cover_every_frame_once(frames, core, context):
    windows = plan_windows(frames, core, context)
    assert [n for w in windows for n in range(w.keep_start, w.keep_stop)] == list(range(frames))
    for window in windows:
        assert window.start == 0 or window.start == window.keep_start - context
        assert window.stop == frames or window.stop == window.keep_stop + context
        assert window.stop - window.start <= core + 2 * context


def test_a_short_clip_is_what_the_encoder_gives(encoder):
    wav = voice(7.3)
    with torch.inference_mode():
        expected = encoder(wav[None], layer=2)[0]
    frames = Extractor(encoder, dtype="float32")(wav)
    assert frames.dtype == torch.float32
    torch.testing.assert_close(frames, expected, atol=1e-5, rtol=0)


def test_before_attention_windows_equal_the_whole(encoder):
    """Front end, statistics and positional convolution reach no further than the context: no seam at all."""
    wav = voice(41.234)
    with torch.inference_mode():
        whole = encoder(wav[None], layer=0)[0]
    torch.testing.assert_close(Extractor(encoder, 0, dtype="float32")(wav), whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["wavlm-base", "log-mel"])
def test_a_wide_positional_convolution_gets_a_wider_context(kind):
    torch.manual_seed(0)
    encoder = SpeechEncoder(replace(KINDS[kind], pos_kernel=300)).eval()
    wav = voice(25)
    with torch.inference_mode():
        whole = encoder(wav[None], layer=0)[0]
    torch.testing.assert_close(Extractor(encoder, 0, dtype="float32")(wav), whole, atol=1e-4, rtol=0)


def test_a_cpu_computes_one_window_at_a_time(monkeypatch):
    largest = []
    forward = SpeechEncoder.forward

    def measured(self, wav, *rest, **options):
        largest.append(wav.numel())
        return forward(self, wav, *rest, **options)

    monkeypatch.setattr(SpeechEncoder, "forward", measured)
    extractor = Extractor(SpeechEncoder(KINDS["log-mel"]))
    extractor(voice(180))
    extractor.batch([voice(2, seed) for seed in range(20)])
    assert max(largest) <= 13 * 16_000
    assert len(largest) < 18 + 20  # the short clips went together


def test_after_attention_windows_stay_near_the_whole():
    """Attention hears 12.6 s instead of everything: at layer 2, a cosine of .98 everywhere, and no jump at a seam."""
    torch.manual_seed(0)
    shape = {"conv_dim": 64, "dim": 128, "depth": 2, "heads": 4, "ffn_dim": 256}
    encoder = SpeechEncoder(EncoderConfig.wavlm_base(**shape)).eval()
    wav = voice(45)
    with torch.inference_mode():
        whole = encoder(wav[None], layer=2)[0]
    frames = Extractor(encoder, 2, dtype="float32")(wav)
    assert frames.shape == whole.shape
    assert torch.cosine_similarity(frames, whole, dim=-1).min() > 0.98
    seams = [window.keep_start - 1 for window in plan_windows(len(whole))][1:]
    assert len(seams) == 4
    jump, natural = (x.diff(dim=0).norm(dim=1)[seams].mean() for x in (frames, whole))
    assert jump < 1.1 * natural


def test_a_batch_is_what_its_clips_are_alone(encoder, monkeypatch):
    clips = [voice(seconds, seed) for seed, seconds in enumerate((3.1, 0.025, 30.7, 3.1, 13.9, 0.5))]
    extractor = Extractor(encoder, dtype="float32")
    monkeypatch.setitem(ssl_vc.features.extractor.BATCH_SECONDS, "cpu", 40.0)  # as on a GPU: several windows at once
    for together, clip in zip(extractor.batch(clips), clips, strict=True):
        assert together.shape == (extractor.encoder.num_frames(len(clip)), 32)
        torch.testing.assert_close(together, extractor(clip), atol=1e-4, rtol=0)
    assert extractor.batch([]) == []


def test_streamed_pieces_are_the_whole(encoder):
    extractor = Extractor(encoder, dtype="float32")
    wav = voice(33)
    pieces = list(extractor.stream(wav))
    assert max(len(piece) for piece in pieces) <= CORE + 2 * CONTEXT
    assert torch.equal(torch.cat(pieces), extractor(wav))
    torch.nn.Linear(32, 1)(pieces[0]).sum().backward()  # they are ordinary tensors


def test_paths_arrays_and_tensors_give_the_same_frames(tmp_path):
    extractor = Extractor.from_pretrained("untrained")
    wav = voice(1.5)
    soundfile.write(tmp_path / "clip.wav", wav.numpy(), 16_000, subtype="FLOAT")
    expected = extractor(wav)
    assert expected.shape == (74, 256)
    for source in (tmp_path / "clip.wav", str(tmp_path / "clip.wav"), (wav.numpy(), 16_000), (wav, 16_000)):
        assert torch.equal(extractor(source), expected)
    at_48k = (np.repeat(wav.numpy(), 3), 48_000)
    assert extractor(at_48k).shape == expected.shape


def test_the_encoder_is_left_as_it_was(encoder):
    before = encoder.fingerprint(3)
    extractor = Extractor(encoder, 1, dtype="bfloat16")
    frames = extractor(voice(1))
    assert frames.dtype == torch.float32
    assert encoder.fingerprint(3) == before
    assert encoder.project.weight.dtype == torch.float32
    assert encoder.project.weight.requires_grad
    assert extractor.encoder.config.depth == 1
    exact = Extractor(encoder, 1, dtype="float32")(voice(1))
    assert torch.cosine_similarity(frames, exact, dim=-1).min() > 0.99


def test_the_untrained_model_is_always_the_same():
    state = torch.random.get_rng_state()
    first, second = (Extractor.from_pretrained("untrained") for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.spec == second.spec
    assert first.spec.layer == 4
    assert torch.equal(first(voice(1)), second(voice(1)))


def test_saved_frames_reload_bit_for_bit(encoder, tmp_path):
    extractor = Extractor(encoder)
    wav = voice(29.9)
    assert extractor.save(wav, tmp_path / "clip.safetensors") == 1494
    frames, spec = read_frames(tmp_path / "clip.safetensors")
    assert torch.equal(frames, extractor(wav))
    assert spec == extractor.spec == FrameSpec(encoder.fingerprint(2), 2, encoder.config.normalized, 32)
    assert torch.equal(load_file(tmp_path / "clip.safetensors")["frames"], frames)  # the plain library reads it too
    with safe_open(tmp_path / "clip.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["spec"])
        assert file.metadata()["dtype"] in ("float32", "bfloat16")
    assert (facts["sample_rate"], facts["hop_length"]) == (16_000, 320)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.safetensors"]


def test_a_write_that_breaks_off_leaves_nothing(tmp_path):
    spec = FrameSpec("0" * 16, 2, False, 4)
    (tmp_path / "old.safetensors").write_text("old")

    def pieces():
        yield torch.ones(3, 4)
        raise OSError("disk full")

    for path in (tmp_path / "new.safetensors", tmp_path / "old.safetensors"):
        with pytest.raises(OSError, match=rf"{path.name} cannot be written: disk full; check the folder"):
            write_frames(path, pieces(), 6, spec)
    with pytest.raises(ValueError, match=r"got 3 frames where 6 were announced"):
        write_frames(tmp_path / "new.safetensors", [torch.ones(3, 4)], 6, spec)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old.safetensors", "old")]


def test_frames_are_not_written_over_sound(tmp_path):
    with pytest.raises(ValueError, match=r"own\.wav does not end in \.safetensors"):
        write_frames(tmp_path / "own.wav", [torch.ones(3, 4)], 3, FrameSpec("0" * 16, 2, False, 4))


def test_frames_of_another_make_are_refused():
    mine = FrameSpec("aaaa", 6, False, 1024)
    mine.require(FrameSpec("aaaa", 6, False, 1024), "anna.voice")
    with pytest.raises(
        ValueError, match=r"anna\.voice does not fit: it has layer 7 instead of 6, normalized True instead of"
    ):
        mine.require(FrameSpec("aaaa", 7, True, 1024), "anna.voice")


def spoil(**changes):
    def write(path):
        spec = json.dumps(vars(FrameSpec("0" * 16, 2, False, 4)) | changes.pop("spec", {}))
        save_file({changes.pop("key", "frames"): torch.ones(*changes.pop("shape", (3, 4)))}, path, {"spec": spec})

    return write


BAD = {
    "missing": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "does not exist, or is not a file"),
    "text": (lambda path: path.write_text("hello"), "is not a frame file"),
    "truncated": (lambda path: (spoil()(path), os.truncate(path, 150)), "is not a frame file"),
    "other tensors": (spoil(key="weights"), "is not a frame file"),
    "no spec": (lambda path: save_file({"frames": torch.ones(3, 4)}, path), "is not a frame file"),
    "odd spec": (spoil(spec={"colour": 1}), "is not a frame file"),
    "odd shape": (spoil(shape=(3, 5)), r"shape \(3, 5\); its header says \(frames, 4\)"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_frame_files_are_refused(tmp_path, kind):
    write, sentence = BAD[kind]
    write(tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=sentence):
        read_frames(tmp_path / "bad.safetensors")


def test_clips_that_hold_no_frame_are_refused(encoder):
    extractor = Extractor(encoder)
    with pytest.raises(ssl_vc.AudioError, match=r"has 320 samples at 16 kHz; one frame needs 400 \(25 ms\)"):
        extractor(voice(0.02))
    with pytest.raises(ssl_vc.AudioError, match="silen"):
        extractor(torch.zeros(16_000))


def test_wrong_choices_are_refused(encoder):
    with pytest.raises(ValueError, match="layer is 9; this encoder has layers 0 to 3"):
        Extractor(encoder, 9)
    with pytest.raises(ValueError, match="possible are auto, float32 and bfloat16"):
        Extractor(encoder, dtype="int8")
    with pytest.raises(ValueError, match="the device 'fpga' is not known; possible are auto, cpu, cuda"):
        Extractor(encoder, device="fpga")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="the device 'cuda:3' cannot be used here"):
            Extractor(encoder, device="cuda:3")
    with pytest.raises(ValueError, match="no layer is recommended for this encoder; choose one of 0 to 3"):
        Extractor(SpeechEncoder(EncoderConfig.tiny(**SMALL)))
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(("amx", "avx512"), [(True, False), (False, True), (False, False)])
def test_bfloat16_is_chosen_where_the_cpu_computes_with_it(encoder, monkeypatch, amx, avx512):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    expected = torch.bfloat16 if amx or avx512 else torch.float32
    assert Extractor(encoder, device="cpu").encoder.project.weight.dtype == expected
    assert Extractor(encoder, device="cpu", dtype="float32").encoder.project.weight.dtype == torch.float32


@pytest.mark.parametrize("name", ["nobody", "no/such/folder", "tiny2", "model.pt"])
def test_unknown_models_are_refused(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=name):
        Extractor.from_pretrained(name)


def test_models_of_every_kind_are_found(tmp_path):
    torch.manual_seed(0)
    encoder = SpeechEncoder(EncoderConfig.wavlm_base(**SMALL | {"dim": 128, "heads": 2}))
    encoder.save_pretrained(tmp_path / "ours")
    encoder.save_transformers(tmp_path / "theirs")
    specs = [Extractor.from_pretrained(str(tmp_path / name), 2).spec for name in ("ours", "theirs")]
    assert specs[0] == specs[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_frames(encoder):
    wav = voice(30)
    on_gpu = Extractor(encoder, device="cuda", dtype="float32")(wav)
    torch.testing.assert_close(on_gpu, Extractor(encoder, dtype="float32")(wav), atol=1e-3, rtol=1e-3)


def test_normalised_input_is_a_choice():
    options = {"dtype": "float32"}
    raw, own = (ssl_vc.Extractor.from_pretrained("untrained", normalized=choice, **options) for choice in (True, None))
    wav = 0.1 * torch.randn(8000)
    assert (raw.spec.normalized, own.spec.normalized) == (True, False)
    assert torch.allclose(raw(wav), raw(wav * 0.3 + 0.01), atol=1e-2)
    assert not torch.allclose(own(wav), own(wav * 0.3 + 0.01), atol=1e-2)
