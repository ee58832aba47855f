"""Truths first: a tone stays the tone it was, its sine measures what the standard says; then the refusals."""

import errno
import math
import os
import shutil
import stat
import struct
import subprocess
import sys
import time
import tracemalloc
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from ssl_vc import decoding
from ssl_vc.audio import AudioError, read, trim, write
from ssl_vc.loudness import k_response, loudness, normalize_loudness

OPUS = {"format": "OGG", "subtype": "OPUS"}
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def tone(frequency: float, rate: int, seconds: float = 1.0, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)


def noise(samples: int, level: float = 0.1) -> torch.Tensor:
    return level * torch.randn(samples, generator=torch.Generator().manual_seed(0))


def amplitude(wav: torch.Tensor, frequency: float) -> float:
    """Of the sinusoid at `frequency` in the middle of a 16 kHz sound, away from the resampler's edges."""
    middle = wav[1_600:-1_600].numpy().astype(float)
    phase = 2j * np.pi * frequency * np.arange(len(middle)) / 16_000
    return 2 * abs(np.mean(middle * np.exp(-phase)))


def rms(wav: torch.Tensor) -> float:
    return float(wav.double().square().mean().sqrt())


def refusal(source: object, **options: float) -> str:
    """The sentence with which a source is refused."""
    with pytest.raises(AudioError) as caught:
        read(source, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    if isinstance(source, Path):
        assert source.name in sentence
    return sentence


# Reading


def test_tone_below_the_new_nyquist_keeps_its_frequency_and_level(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.stack([tone(3_000, 44_100), tone(3_000, 44_100)], axis=1), 44_100, subtype="FLOAT")
    wav = read(path)
    assert wav.shape == (16_000,)
    assert amplitude(wav, 3_000) == pytest.approx(0.5, rel=1e-3)
    assert rms(wav[1_600:-1_600]) == pytest.approx(0.5 / math.sqrt(2), rel=1e-3)  # there is nothing else in it


def test_tone_above_the_new_nyquist_disappears() -> None:
    wav = read((tone(9_000, 44_100), 44_100))
    assert rms(wav[1_600:-1_600]) < 1e-5


def test_channels_are_averaged() -> None:
    left, right = tone(440, 16_000, level=0.5), tone(1_000, 16_000, level=0.3)
    both = np.stack([left, right], axis=1).astype(np.float32)
    expected = torch.from_numpy(both.mean(axis=1))
    for source in ((both, 16_000), (both.T, 16_000), torch.from_numpy(both), torch.from_numpy(both.T)):
        assert torch.equal(read(source), expected)


def test_16_khz_is_bit_exact_and_a_copy(tmp_path: Path) -> None:
    wav = noise(30_000)
    soundfile.write(tmp_path / "a.wav", wav.numpy(), 16_000, subtype="FLOAT")
    for source in (
        tmp_path / "a.wav",
        str(tmp_path / "a.wav"),
        wav,
        wav[None],
        (wav, 16_000),
        (wav.numpy()[:, None], 16_000),
    ):
        result = read(source)
        assert torch.equal(result, wav)
        assert result.dtype == torch.float32
        assert result.is_contiguous()
        assert result.data_ptr() != wav.data_ptr()


def test_blocks_equal_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stereo = np.stack([noise(50_000).numpy(), tone(300, 50_000)], axis=1).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", stereo, 44_100, subtype="FLOAT")
    whole = read((stereo, 44_100))
    monkeypatch.setattr(decoding, "BLOCK", 1_000)
    assert torch.equal(read(tmp_path / "a.wav"), whole)


def test_long_original_is_never_whole_in_memory(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", np.zeros((60 * 44_100, 2), np.float32), 44_100)
    original, result = 60 * 44_100 * 2 * 4, 60 * 16_000 * 4
    tracemalloc.start()
    read(tmp_path / "long.flac")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * result + 4e6 < original


@pytest.mark.parametrize(
    ("suffix", "options", "error"),  # error: rms of the difference, beside the tone's own 0.35
    [
        (".wav", {"subtype": "PCM_U8"}, 5e-3),
        (".wav", {"subtype": "PCM_16"}, 2e-5),
        (".wav", {"subtype": "PCM_24"}, 1e-7),
        (".wav", {"subtype": "PCM_32"}, 1e-9),
        (".wav", {"subtype": "FLOAT"}, 0),
        (".wav", {"subtype": "DOUBLE"}, 0),
        (".aiff", {}, 2e-5),
        (".flac", {}, 2e-5),
        (".ogg", {}, 1e-2),
        (".opus", OPUS, 1e-2),
        (".mp3", {}, 3e-2),
    ],
)
def test_formats_give_the_sound_back(tmp_path: Path, suffix: str, options: dict[str, str], error: float) -> None:
    original = torch.from_numpy(tone(500, 16_000, 2)).float()
    soundfile.write(tmp_path / f"a{suffix}", original.numpy(), 16_000, **options)
    wav = read(tmp_path / f"a{suffix}")
    assert len(wav) == len(original)
    assert rms((wav - original)[1_600:-1_600]) <= error


@pytest.mark.parametrize(
    ("dtype", "half", "zero"),
    [
        ("uint8", 192, 128),
        ("int8", 64, 0),
        ("int16", 16_384, 0),
        (">i2", 16_384, 0),
        ("int32", 2**30, 0),
        ("float16", 0.5, 0),
    ],
)
def test_array_dtypes_have_their_full_scale(dtype: str, half: float, zero: float) -> None:
    assert read((np.array([half, zero] * 9, dtype), 16_000)).tolist() == [0.5, 0.0] * 9


def test_tensors_of_training_are_read() -> None:
    wav = noise(100).bfloat16().requires_grad_()
    assert torch.equal(read(wav), wav.detach().float())
    assert torch.equal(read((noise(100).numpy()[::-1], 16_000)), noise(100).flip(0))


@settings(deadline=None, max_examples=60)
@given(
    rate=st.integers(4_000, 96_000) | st.sampled_from([8_000, 16_000, 44_100, 48_000]),
    channels=st.integers(1, 4),
    seconds=st.floats(0, 3) | st.floats(0, 0.001),
    dtype=st.sampled_from(["uint8", "int16", "int32", "float32", "float64"]),
    seed=st.integers(0, 9),
)
def test_any_array_becomes_16_khz(rate: int, channels: int, seconds: float, dtype: str, seed: int) -> None:
    samples = int(rate * seconds)
    assume(not 0 < samples < channels)  # cannot be told from (channels, samples)
    sound = np.random.default_rng(seed).uniform(-0.8, 0.8, (samples, channels))
    if dtype.startswith("uint"):
        sound = sound * 127 + 128
    elif dtype.startswith("int"):
        sound *= np.iinfo(dtype).max
    exact = samples * 16_000 / rate
    if exact < 0.5:
        assert "no samples" in refusal((sound.astype(dtype), rate))
        return
    wav = read((sound.astype(dtype), rate))
    assert wav.ndim == 1
    assert abs(len(wav) - exact) <= 1
    assert wav.isfinite().all()
    assert wav.abs().max() < 2.5  # between samples noise may reach higher than in them; 5 deviations never do


@settings(deadline=None, max_examples=25)
@given(
    rate=st.sampled_from([8_000, 11_025, 22_050, 44_100, 96_000]),
    channels=st.integers(1, 4),
    samples=st.integers(6, 30_000),
    subtype=st.sampled_from(["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW"]),
)
def test_a_file_is_its_array(
    tmp_path_factory: pytest.TempPathFactory, rate: int, channels: int, samples: int, subtype: str
) -> None:
    path = tmp_path_factory.mktemp("property") / "a.wav"
    soundfile.write(path, np.random.default_rng(samples).uniform(-0.8, 0.8, (samples, channels)), rate, subtype=subtype)
    assert torch.equal(read(path), read((soundfile.read(path, dtype="float32")[0], rate)))


# Headers that lie


def test_wav_claiming_2_to_the_31_frames_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "lie.wav"
    soundfile.write(path, noise(1_000).numpy(), 16_000, subtype="PCM_16")
    honest, data = read(path), bytearray(path.read_bytes())
    assert data[36:40] == b"data"
    data[4:8], data[40:44] = struct.pack("<I", 2**32 - 1), struct.pack("<I", 2**32 - 2)
    path.write_bytes(data)
    assert torch.equal(read(path), honest)


def test_truncated_wav_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    soundfile.write(path, noise(1_000).numpy(), 16_000, subtype="PCM_16")
    whole = read(path)
    path.write_bytes(path.read_bytes()[: 44 + 2 * 700])
    assert torch.equal(read(path), whole[:700])  # 0.02 s less are not worth a warning


def flac_claiming(path: Path, frames: int, samples: int = 40_000) -> Path:
    """A FLAC whose header claims `frames`; 0 means unknown, as a streaming encoder leaves it."""
    soundfile.write(path, noise(samples).numpy(), 16_000)
    data = bytearray(path.read_bytes())
    fields = int.from_bytes(data[18:26], "big")
    assert fields % 2**36 == samples
    data[18:26] = (fields - samples + frames).to_bytes(8, "big")
    path.write_bytes(data)
    return path


def test_flac_of_unknown_length_is_read(tmp_path: Path) -> None:
    assert torch.allclose(read(flac_claiming(tmp_path / "a.flac", 0)), noise(40_000), atol=1e-4)


def test_too_long_by_its_header_is_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    assert "6 hours" in refusal(flac_claiming(tmp_path / "a.flac", 6 * 3600 * 16_000 + 1))
    for limit, words in ((600, "10 minutes"), (450, "7.5 minutes"), (2.5, "2.5 seconds"), (0.5, "0.5 seconds")):
        path = flac_claiming(tmp_path / "a.flac", round(limit * 16_000) + 1)
        assert f"is longer than {words}; cut it" in refusal(path, max_seconds=limit)


def test_too_long_without_saying_so_is_refused_while_decoding(tmp_path: Path) -> None:
    path = flac_claiming(tmp_path / "a.flac", 0)
    assert len(read(path, max_seconds=2.5)) == 40_000
    assert "longer than 2.4 seconds" in refusal(path, max_seconds=2.4)


def test_too_long_array_is_refused_before_resampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding.soxr, "ResampleStream", lambda *_, **__: pytest.fail("resampled"))
    for source in (noise(40_000), (noise(2_500).numpy(), 1_000)):
        with pytest.raises(decoding.TooLongError, match=r"longer than 2\.4 seconds"):
            read(source, max_seconds=2.4)


# Refusals


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.wav", b"", "empty (0 bytes)"),
        ("text.wav", b"Dear diary, this is not a sound.\n" * 20, "not an audio file"),
        ("text.au", b"Dear diary, this is not a sound.\n" * 20, "not an audio file"),
        ("text.vox", b"Dear diary, this is not a sound.\n" * 20, "not an audio file"),
        ("no_header.raw", bytes(1_000), "not an audio file"),
        ("half_a_header.wav", b"RIFF\x24\x08\x00\x00WAVEfmt \x10\x00", "not an audio file"),
        ("name", b"RIFF", "not an audio file"),
    ],
)
def test_what_is_not_sound_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path / name)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "missing.wav")
    assert "folder" in refusal(tmp_path)
    assert "too long" in refusal("x" * 300 + ".wav")


def test_file_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16_000)
    assert "no samples" in refusal(tmp_path / "none.wav")


def test_file_of_nan_is_refused(tmp_path: Path) -> None:
    for value in (math.nan, math.inf):
        soundfile.write(tmp_path / "a.wav", np.array([0.0, value, 0.0]), 44_100, subtype="FLOAT")
        assert "NaN or infinite" in refusal(tmp_path / "a.wav")


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    path = flac_claiming(tmp_path / "a.flac", 40_000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "damaged" in refusal(path)


def test_silence_is_refused_only_as_speech(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.full(1_000, 5e-5), 16_000, subtype="FLOAT")
    assert len(read(tmp_path / "silence.wav")) == 1_000
    assert "silent" in refusal(tmp_path / "silence.wav", speech=True)
    assert len(read(noise(100), speech=True)) == 100


def test_file_rate_out_of_range_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "slow.wav", noise(100).numpy(), 800)
    assert "sample rate 800" in refusal(tmp_path / "slow.wav")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "locked.wav", noise(100).numpy(), 16_000)
    (tmp_path / "locked.wav").chmod(0)
    assert "Permission denied" in refusal(tmp_path / "locked.wav")


def test_permission_error_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "locked.wav", noise(100).numpy(), 16_000)

    def locked(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", locked)
    assert "cannot be accessed: Permission denied;" in refusal(tmp_path / "locked.wav")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every file name is Unicode")
def test_file_name_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.wav")
    (tmp_path / name).write_bytes(b"RIFF")
    assert "not an audio file" in refusal(str(tmp_path / name))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (7, "an (array, rate) pair"),
        ([0.0, 0.1], "is a list"),
        (None, "is a NoneType"),
        ((16_000, np.zeros(9)), "is a int"),
        (([0.0, 0.1], 16_000), "is a list"),
        ((np.zeros(9), 999), "sample rate 999"),
        ((np.zeros(9), 768_001), "sample rate 768001"),
        ((np.zeros(9), -16_000), "sample rate -16000"),
        ((np.zeros(9), 16_000.5), "whole number"),
        ((np.zeros(9), np.zeros(900)), "whole number"),
        ((np.zeros(9, complex), 16_000), "complex128"),
        ((np.zeros(9, bool), 16_000), "bool"),
        ((np.array([None]), 16_000), "object"),
        ((np.array(["word" * 1_000]), 16_000), "dtype"),
        ((np.zeros(9, int), 16_000), "int64"),
        (torch.zeros(9, dtype=torch.complex64), "complex64"),
        (torch.zeros(2, 3, 4), "shape (2, 3, 4)"),
        (torch.tensor(0.0), "shape ()"),
        (torch.zeros(16, 900), "shape (16, 900)"),
        (torch.zeros(0), "no samples"),
        ((np.zeros((0, 2)), 44_100), "no samples"),
        ((np.array([0.0, math.nan]), 16_000), "NaN"),
        ((np.array([0.0, 1e300]), 16_000), "infinite"),
        ((np.full((100, 2), 3e38, np.float32), 44_100), "infinite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_one_sound_is_refused(source: object, words: str) -> None:
    assert words in refusal(source)


# ffmpeg


def fake_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put a program named ffmpeg first on PATH, and return a file for it to "decode"."""
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    (folder / "clip.m4a").write_text("not empty")
    return folder / "clip.m4a"


def test_without_ffmpeg_the_sentence_says_what_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    for suffix in (".m4a", ".MP4", ".mov", ".aac", ".webm", ".mkv"):
        (tmp_path / f"a{suffix}").write_text("not empty")
        sentence = refusal(tmp_path / f"a{suffix}")
        assert all(word in sentence for word in ("ffmpeg", "install", "wav, flac, ogg, opus, mp3", suffix.lower()))


def test_ffmpeg_samples_are_read_as_they_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = noise(20_000)
    (tmp_path / "samples").write_bytes(expected.numpy().astype("<f4").tobytes())
    path = fake_ffmpeg(tmp_path, monkeypatch, f"echo \"$@\" > '{tmp_path}/arguments'; cat '{tmp_path}/samples'")
    monkeypatch.setattr(decoding, "BLOCK", 999)
    assert torch.equal(read(path), expected)
    arguments = (tmp_path / "arguments").read_text()
    for part in ("-nostdin", "-protocol_whitelist file", f"-f mov -i file:{path}", "-f f32le"):
        assert part in arguments


def test_ffmpeg_failure_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake_ffmpeg(tmp_path, monkeypatch, "echo first >&2; echo moov atom not found >&2; printf abc; exit 1")
    sentence = refusal(path)
    assert "ffmpeg (moov atom not found)" in sentence
    assert "first" not in sentence


def test_ffmpeg_without_samples_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no samples" in refusal(fake_ffmpeg(tmp_path, monkeypatch, "exit 0"))


def test_ffmpeg_is_stopped_when_it_gives_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = f"echo $$ > '{tmp_path}/pid'; head -c {4 * decoding.BLOCK} /dev/zero; exec sleep 20"
    path = fake_ffmpeg(tmp_path, monkeypatch, endless)
    start = time.monotonic()
    assert "longer" in refusal(path, max_seconds=1)
    assert time.monotonic() - start < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".m4a", ".mp4", ".mov", ".aac", ".webm", ".mkv"])
def test_ffmpeg_formats_are_read(tmp_path: Path, suffix: str) -> None:
    stereo = np.stack([tone(500, 48_000, 2), np.zeros(96_000)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 48_000)
    encode = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), str(tmp_path / f"a{suffix}")]
    subprocess.run(encode, check=True, stdin=subprocess.DEVNULL)
    wav = read(tmp_path / f"a{suffix}")
    assert len(wav) == pytest.approx(32_000, abs=1_600)  # AAC without a container says nothing of its padding
    assert amplitude(wav[8_000:24_000], 500) == pytest.approx(0.25, rel=0.05)


@needs_ffmpeg
@pytest.mark.parametrize(
    "content", ["Dear diary.\n" * 50, "#EXTM3U\n#EXTINF:1,\nother.wav\n", "ffconcat version 1.0\nfile other.wav\n"]
)
def test_renamed_text_does_not_make_ffmpeg_open_other_files(tmp_path: Path, content: str) -> None:
    soundfile.write(tmp_path / "other.wav", noise(16_000).numpy(), 16_000)
    for suffix in (".m4a", ".webm"):
        (tmp_path / f"list{suffix}").write_text(content)
        assert "could not be decoded" in refusal(tmp_path / f"list{suffix}")


# Trimming


def test_trim_keeps_the_sound_and_its_margin() -> None:
    sound = torch.from_numpy(tone(300, 16_000)).float()
    wav = torch.cat([torch.zeros(8_000), sound, torch.zeros(4_800), sound, torch.zeros(12_000)])
    trimmed = trim(wav)
    margin = 800
    assert torch.equal(trimmed, wav[8_000 - margin : -12_000 + margin])  # the pause inside stays
    assert torch.equal(trim(wav, margin=0), wav[8_000:-12_000])


def test_trim_keeps_soft_edges() -> None:
    vowel = torch.from_numpy(tone(200, 16_000, level=0.5)).float()
    wav = torch.cat([noise(4_000, level=0.016), vowel, noise(4_000, level=0.016)])  # fricatives 30 dB below it
    assert torch.equal(trim(wav), wav)
    assert torch.equal(trim(trim(wav)), trim(wav))


def test_a_name_that_is_not_text(tmp_path) -> None:
    if sys.platform != "linux":
        pytest.skip("names of files are text here")
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    write(path, noise(1_000, 0.1), 16_000)
    assert len(read(path)) == 1_000


def test_trim_takes_top_db_below_the_loudest() -> None:
    quiet, loud = (torch.from_numpy(tone(300, 16_000, level=level)).float() for level in (0.005, 0.5))
    wav = torch.cat([torch.zeros(16_000), quiet, loud])  # 40 dB apart
    assert len(trim(wav, top_db=35, margin=0)) == 16_000
    assert len(trim(wav, top_db=45, margin=0)) == 32_000


def test_trim_without_sound_leaves_nothing() -> None:
    for wav in (torch.zeros(0), torch.zeros(5_000), torch.full((5_000,), 5e-5)):
        assert len(trim(wav)) == 0


def test_trim_leaves_what_has_no_silence() -> None:
    for wav in (torch.from_numpy(tone(500, 16_000)).float(), torch.ones(10), noise(5_000)):
        assert torch.equal(trim(wav), wav)


# Loudness: ITU-R BS.1770-4

TABLE = (  # its two tables for 48 kHz
    ([1.53512485958697, -2.69169618940638, 1.19839281085285], [1, -1.69065929318241, 0.73248077421585]),
    ([1, -2, 1], [1, -1.99004745483398, 0.99007225036621]),
)


def test_filters_equal_the_published_table() -> None:
    z = np.exp(-2j * np.pi * np.arange(129) / 256)
    published = np.prod([np.polyval(b[::-1], z) / np.polyval(a[::-1], z) for b, a in TABLE], axis=0)
    assert k_response(48_000, 256) == pytest.approx(published, abs=1e-9)


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
def test_full_scale_sine_at_997_hz_measures_minus_3(rate: int) -> None:
    assert loudness(torch.from_numpy(tone(997, rate, 5, level=1.0)), rate) == pytest.approx(-3.01, abs=0.05)


def test_loudness_follows_the_standard_word_by_word() -> None:
    rate, levels = 48_000, (0.052, 0.0, 0.3, 0.01)  # the first is below the gate only if the second is not counted
    wav = torch.cat([noise(round(20.03 * rate), level) for level in levels])
    weighted = wav.double().numpy()
    for b, a in TABLE:
        weighted = lfilter(b, a, weighted)
    blocks = [weighted[start : start + 19_200] for start in range(0, len(weighted) - 19_200 + 1, 4_800)]
    power = np.array([np.mean(block**2) for block in blocks])
    for gate in (10**-6.9309, 0.1 * power[power > 10**-6.9309].mean()):
        power = power[power > gate]
    assert loudness(wav, rate) == pytest.approx(-0.691 + 10 * np.log10(power.mean()), abs=1e-9)


@pytest.mark.parametrize("level", [0.0, 0.005])  # cut by the absolute, by the relative gate
def test_pauses_do_not_change_the_loudness(level: float) -> None:
    speech = noise(160_000)
    with_pause = torch.cat([speech, noise(160_000, level)])
    assert loudness(with_pause) == pytest.approx(loudness(speech), abs=0.1)


def test_loudness_is_linear_in_gain_and_blind_to_the_block_of_a_minute() -> None:
    wav = noise(16_000 * 70)
    assert loudness(wav / 10) == pytest.approx(loudness(wav) - 20, abs=1e-3)
    assert loudness(wav) == pytest.approx(loudness(wav[:160_000]), abs=0.1)


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.399])
def test_short_clips_are_one_block(seconds: float) -> None:
    assert loudness(torch.from_numpy(tone(997, 16_000, seconds, level=1.0))) == pytest.approx(-3.01, abs=0.5)
    assert loudness(torch.from_numpy(tone(997, 16_000, seconds, level=1e-4))) == pytest.approx(-83, abs=0.5)  # ungated


@pytest.mark.parametrize("samples", [0, 1, 100, 6_399, 6_400, 50_000])
def test_silence_is_minus_infinity(samples: int) -> None:
    assert loudness(torch.zeros(samples)) == -math.inf
    assert torch.equal(normalize_loudness(torch.zeros(samples)), torch.zeros(samples))


def test_normalize_reaches_its_target_with_one_gain() -> None:
    wav = noise(80_000, 0.01)
    normalized = normalize_loudness(wav, -23.0)
    assert loudness(normalized) == pytest.approx(-23, abs=0.01)
    assert torch.allclose(normalized / wav, (normalized / wav)[0].expand_as(wav), rtol=1e-5)


def test_normalize_stops_at_a_peak_of_one() -> None:
    wav = noise(80_000, 0.001)
    wav[500] = 0.7
    normalized = normalize_loudness(wav)
    assert normalized.abs().max() == 1
    assert loudness(normalized) < -17
    assert torch.allclose(normalized, wav / 0.7)
    for peak in range(1, 50):
        assert normalize_loudness(torch.tensor([0.0, peak / 50]), 20.0).max() <= 1


# Writing


@pytest.mark.parametrize(
    ("suffix", "rate", "error"),
    [
        (".wav", 16_000, 2e-5),
        (".flac", 44_100, 2e-5),
        (".ogg", 24_000, 1e-2),
        (".opus", 48_000, 1e-2),
        (".mp3", 24_000, 1e-2),
    ],
)
def test_written_sound_comes_back(tmp_path: Path, suffix: str, rate: int, error: float) -> None:
    wav = torch.from_numpy(tone(500, rate, 2)).float()
    path = write(tmp_path / f"a{suffix}", wav, rate)
    assert path == tmp_path / f"a{suffix}"
    assert rms((read(path) - torch.from_numpy(tone(500, 16_000, 2)))[1_600:-1_600]) < error
    assert soundfile.info(path).samplerate == rate
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_write_takes_arrays_and_one_channel(tmp_path: Path) -> None:
    wav = noise(1_000).clamp(-0.9, 0.9)
    for sound in (wav[None], wav.numpy()[None], wav.numpy()[::-1].copy()[::-1], wav.requires_grad_()):
        assert torch.allclose(read(write(str(tmp_path / "a.WAV"), sound, 16_000)), wav.detach(), atol=4e-5)


def test_16_bit_sound_is_written_bit_for_bit(tmp_path: Path) -> None:
    samples = np.arange(-(2**15), 2**15, dtype=np.int16)
    for name in ("a.wav", "a.flac"):
        write(tmp_path / name, samples, 22_050)
        assert np.array_equal(soundfile.read(tmp_path / name, dtype="int16")[0], samples)


def test_long_vorbis_is_written(tmp_path: Path) -> None:
    write(tmp_path / "long.ogg", np.zeros(48_000 * 120), 48_000)  # in one call libsndfile would crash
    assert soundfile.info(tmp_path / "long.ogg").frames == 48_000 * 120


def test_clipping_is_prevented_and_said(tmp_path: Path) -> None:
    wav = torch.from_numpy(tone(500, 16_000, level=2.0)).float()
    with pytest.warns(UserWarning, match=r"would clip: its peak is 2; lowered by 6\.0 dB"):
        write(tmp_path / "a.wav", wav, 16_000)
    assert torch.allclose(read(tmp_path / "a.wav"), wav * 0.999 / 2, atol=1e-4)
    write(tmp_path / "b.wav", wav / 2, 16_000)  # a peak of 1 is no clipping: a warning would be an error here


@pytest.mark.parametrize(
    ("name", "wav", "rate", "words"),
    [
        ("a.wav", torch.tensor([0.0, math.nan]), 16_000, "NaN"),
        ("a.wav", np.array([0.0, -math.inf]), 16_000, "infinite"),
        ("a.wav", torch.zeros(0), 16_000, "no samples"),
        ("a.wav", torch.zeros(2, 900), 16_000, "2 channels"),
        ("a.wav", [0.0], 16_000, "is a list"),
        ("a.wav", torch.zeros(9), 16_000.5, "whole number"),
        ("a.m4a", torch.zeros(9), 16_000, "use one of .wav, .flac, .ogg, .opus, .mp3"),
        ("a", torch.zeros(9), 16_000, "use one of .wav"),
        ("a.opus", torch.zeros(9), 44_100, "cannot hold 44100 Hz"),
        ("a.mp3", torch.zeros(9), 96_000, "cannot hold 96000 Hz"),
        ("a.ogg", torch.zeros(9), 384_000, "cannot hold 384000 Hz"),
        ("a.flac", torch.zeros(9), 700_000, "failed midway"),
        ("missing/a.wav", torch.zeros(9), 16_000, "does not exist"),
        ("x" * 300 + ".wav", torch.zeros(9), 16_000, "cannot be accessed: File name too long;"),
        ("folder.wav", torch.zeros(9), 16_000, "cannot be accessed"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, name: str, wav: torch.Tensor, rate: int, words: str) -> None:
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioError) as caught:
        write(tmp_path / name, wav, rate)
    assert words in str(caught.value)
    assert name in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.wav"]


@pytest.mark.parametrize(
    ("error", "words"),
    [(PermissionError(13, "Permission denied"), "Permission denied"), (soundfile.LibsndfileError(2), "disk is full")],
)
def test_failing_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    path = write(tmp_path / "a.wav", noise(1_000), 16_000)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(soundfile.SoundFile, "write", fail)
    with pytest.raises(AudioError, match=words):
        write(path, torch.zeros(9), 16_000)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write into every folder")
def test_write_into_a_locked_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(AudioError, match="Permission denied"):
        write(tmp_path / "a.wav", noise(100), 16_000)


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from ssl_vc.audio import AudioError, write

path, wav = Path(sys.argv[1]), np.random.default_rng(0).uniform(-0.5, 0.5, 48_000)
size = write(path, wav, 24_000).stat().st_size
path.unlink()
for room in (size - 1, size - 1_000, size // 2, 0):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        write(path, wav, 24_000)
    except AudioError as error:
        sys.stderr.write(f"{error} {len(list(path.parent.iterdir()))} files\\n")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits")
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_a_file_that_does_not_fit_is_an_error_and_no_file(tmp_path: Path, suffix: str) -> None:
    """Whatever is missing, what libsndfile writes at its close too."""
    path = tmp_path / f"a{suffix}"
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=120)
    said = f"{str(path)!r} cannot be accessed: File too large; check its permissions and its disk. 0 files\n"
    assert done.stderr == said * 4
    assert list(tmp_path.iterdir()) == []


def failing_at(monkeypatch: pytest.MonkeyPatch, fails: int) -> list[int]:
    """Make the n-th write of a file of ours fail; returns the list that the sizes of all come to."""
    sizes: list[int] = []

    class Failing(FileIO):
        def write(self, data: memoryview) -> int:
            sizes.append(len(data))
            if len(sizes) == fails:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr("ssl_vc.files.FileIO", Failing)
    return sizes


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_no_failing_write_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    path, wav = tmp_path / f"a{suffix}", noise(20_000) / 10
    writes = len((failing_at(monkeypatch, 0), write(path, wav, 16_000))[0])
    before = path.read_bytes()
    for fails in {1, 2, writes // 2, writes - 1, writes} - {0}:
        sizes = failing_at(monkeypatch, fails)
        with pytest.raises(AudioError, match="cannot be accessed: No space left on device;"):
            write(path, wav, 16_000)
        assert len(sizes) == fails  # and nothing is written after it
        assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])


def test_a_long_sound_stops_at_the_first_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[int] = []
    original = soundfile.SoundFile.write
    monkeypatch.setattr(
        soundfile.SoundFile, "write", lambda file, data: (blocks.append(len(data)), original(file, data))
    )
    sound = np.zeros(decoding.BLOCK * 4 + 9, np.float32)
    write(tmp_path / "a.wav", sound, 16_000)
    assert blocks == [decoding.BLOCK] * 4 + [9]
    blocks.clear()
    failing_at(monkeypatch, 5)
    with pytest.raises(AudioError, match="No space left"):
        write(tmp_path / "a.wav", sound, 16_000)
    assert len(blocks) == 1


def test_ctrl_c_while_encoding_is_ctrl_c(tmp_path: Path) -> None:
    """In libsndfile's callbacks it would be lost, and printed."""
    code = (
        "import sys, numpy, soundfile, threading, os, signal\n"
        "from ssl_vc.audio import write\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "for _ in range(20):\n"
        "    timer = threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "    try:\n"
        "        timer.start()\n"
        "        write(sys.argv[1], numpy.random.default_rng(0).uniform(-0.5, 0.5, 2_000_000), 24_000)\n"
        "    except KeyboardInterrupt:\n"
        "        print('stopped')\n"
        "    timer.join()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.ogg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("stopped\n" * 20, "")
    assert list(tmp_path.iterdir()) == []
