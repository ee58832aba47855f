"""Sources in memory: the bytes of a file, file objects and arrays are read as the file is, and refused as well."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import ssl_vc
from ssl_vc.audio import AudioError, TooLongError, is_single, read

OPUS = {"format": "OGG", "subtype": "OPUS"}


@pytest.fixture
def file(tmp_path):
    """Write a second of stereo sound at 22.05 kHz."""

    def make(name, seconds=1.0, rate=22_050):
        wav = 0.1 * np.random.default_rng(0).normal(size=(round(seconds * rate), 2))
        soundfile.write(tmp_path / name, wav.clip(-1, 1), rate, **(OPUS if name.endswith(".opus") else {}))
        return tmp_path / name

    return make


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.aiff"])
def test_the_bytes_of_a_file_are_read_as_the_file(file, name):
    path = file(name, rate=24_000)
    content, wanted = path.read_bytes(), read(path)
    with path.open("rb") as opened:
        opened.read(10)  # a file object is read from its start, however often
        sources = content, bytearray(content), memoryview(content), io.BytesIO(content), opened, opened
        assert all(torch.equal(read(source), wanted) for source in sources)


def test_a_file_object_that_cannot_seek_is_read(file):
    class Pipe(io.RawIOBase):
        def __init__(self, content):
            self._rest = content

        def read(self, size=-1):
            part, self._rest = self._rest[:1000], self._rest[1000:]
            return part

    path = file("a.wav")
    assert torch.equal(read(Pipe(path.read_bytes())), read(path))


def test_arrays_are_read_as_tensors():
    wav = 0.1 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(read(wav.numpy()), wav)
    assert torch.equal(read((32767 * wav.numpy()).astype(np.int16)), read((32767 * wav).short()))


@pytest.mark.parametrize("container", [bytes, io.BytesIO])
def test_limits_hold_for_bytes(file, monkeypatch, container):
    content = file("a.flac").read_bytes()
    with pytest.raises(TooLongError, match=r"^The audio is longer than 0\.5 seconds; cut it into parts\.$"):
        read(container(content), max_seconds=0.5)
    bomb = bytearray(content)
    bomb[21] |= 0x0F  # of the FLAC header: its number of samples becomes 64 billion
    bomb[22:26] = b"\xff" * 4
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(TooLongError, match="longer than 6 hours"):
        read(container(bytes(bomb)))


def test_a_file_object_without_end_is_refused(monkeypatch):
    class Endless(io.RawIOBase):
        def read(self, size=-1):
            return bytes(2**20)

    monkeypatch.setattr("ssl_vc.decoding.LARGEST", 2**22)
    with pytest.raises(AudioError, match="too many for memory; give its path"):
        read(Endless())


def test_a_truncated_file_is_named_as_the_audio(file):
    content = file("a.wav", 4.0).read_bytes()
    with pytest.warns(UserWarning, match=r"^The audio is cut off or damaged: 2\.0 of its 4\.0 seconds are missing"):
        assert len(read(content[: len(content) // 2])) == pytest.approx(32_000, abs=50)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (io.BytesIO(), r"is empty \(0 bytes\)"),
        (b"this is no sound", "is not an audio file"),
        (io.StringIO("this is no sound"), "is a file opened as text; open it in the mode 'rb'"),
        (np.zeros((3, 3, 3)), r"has the shape \(3, 3, 3\); give \(samples,\)"),
        (np.array(["a"]), "has the dtype <U1"),
        (7, "is a int; give a path, bytes, an .array, rate. pair, or an array or tensor at 16 kHz"),
    ],
)
def test_what_is_no_sound_is_refused(source, reason):
    with pytest.raises(AudioError, match=f"^The audio {reason}"):
        read(source)


def test_a_closed_file_is_refused():
    closed = io.BytesIO(b"RIFF")
    closed.close()
    with pytest.raises(AudioError, match=r"^The audio is a closed file; open it again\.$"):
        read(closed)


@pytest.mark.parametrize(
    ("start", "kind"), [(b"\0\0\0\x20ftypM4A ", ".mp4"), (b"\x1aE\xdf\xa3", ".webm"), (b"\xff\xf1\x50\x80", ".aac")]
)
def test_content_for_ffmpeg_is_recognised(monkeypatch, start, kind):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(AudioError, match=f"^The audio is {kind}, which cannot be read without ffmpeg"):
        read(start + b"\0" * 100)


def test_content_for_ffmpeg_is_given_to_it_as_a_file(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text('#!/bin/sh\necho "$@" > "$(dirname "$0")/arguments"\nhead -c 4000 /dev/zero\n')
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(program))
    assert len(read(b"\x1aE\xdf\xa3" + b"\0" * 100)) == 1000
    arguments = (tmp_path / "arguments").read_text().split()
    given = next(each.removeprefix("file:") for each in arguments if each.startswith("file:"))
    assert given.endswith("audio.webm") and "matroska" in arguments and not Path(given).exists()


def test_one_source_is_told_from_several():
    singles = "a.wav", Path("a.wav"), b"", bytearray(), io.BytesIO(), np.zeros(3), torch.zeros(3), (np.zeros(3), 8000)
    assert all(map(is_single, singles))
    assert not any(map(is_single, (["a.wav"], ("a.wav", "b.wav"), iter([b""]), [np.zeros(3)])))


def test_everything_that_takes_a_source_takes_these(file, tmp_path, speech):
    ssl_vc.write(tmp_path / "source.wav", speech(1.0), 16_000)
    ssl_vc.write(tmp_path / "target.wav", speech(2.0, text=1), 16_000)
    source, target = (path.read_bytes() for path in (tmp_path / "source.wav", tmp_path / "target.wav"))
    vc = ssl_vc.VoiceConverter.from_pretrained("tiny", device="cpu", dtype="float32")
    voice = vc.enroll(tmp_path / "target.wav")
    for other in (io.BytesIO(target), [target], read(target).numpy()):
        same = vc.enroll(other)
        assert torch.equal(same.frames, voice.frames) and [clip.name for clip in same.origins] == ["recording 1"]
        if not isinstance(other, np.ndarray):
            assert same.origins[0].sha256 == voice.origins[0].sha256  # of the file's bytes
    assert torch.equal(vc.convert(io.BytesIO(source), voice), vc.convert(read(source).numpy(), voice))
    jobs = [(io.BytesIO(source), [io.BytesIO(target)], "a"), (source, voice, "b"), (read(source).numpy(), voice, "c")]
    states = [result.state for result in vc.convert_batch(jobs, tmp_path / "out")]
    assert states == ["done"] * 3
    again = [result.state for result in vc.convert_batch(jobs, tmp_path / "out", resume=True)]
    assert again == ["skipped"] * 3
