"""Files that are chained, cut off, damaged or without a length: all that is there is read, and what is not is said."""

import re
import struct
import warnings

import numpy as np
import pytest
import soundfile
import torch

from ssl_vc.audio import read
from ssl_vc.containers import split

FORMATS = [".wav", ".aiff", ".flac", ".ogg", ".opus", ".mp3"]
SECONDS = 4


@pytest.fixture
def sound(tmp_path):
    """Write a tone that grows louder, so that every part of it differs."""

    def make(name, rate=16_000, seconds=SECONDS, hertz=300.0, channels=1):
        t = np.arange(rate * seconds) / rate
        wav = 0.6 * t / seconds * np.sin(2 * np.pi * hertz * t) + 0.01 * np.random.default_rng(0).normal(size=len(t))
        options = {"format": "OGG", "subtype": "OPUS"} if name.endswith(".opus") else {}
        soundfile.write(tmp_path / name, np.repeat(wav[:, None], channels, 1), rate, **options)
        return tmp_path / name

    return make


def changed(path, change):
    """Another file, whose content is that of the first, changed."""
    other = path.with_name(f"changed-{path.name}")
    other.write_bytes(change(path.read_bytes()))
    return other


def half(content):
    return content[: len(content) // 2]


def zeroed(content):
    """Damage a fifth of the content, in its middle."""
    start, count = len(content) // 2, len(content) // 5
    return content[:start] + bytes(count) + content[start + count :]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_of_an_intact_file_nothing_is_missing(sound, suffix, rate):
    path = sound(f"a{suffix}", rate)
    decoded, _ = soundfile.read(path, dtype="float32", always_2d=True)
    assert torch.allclose(read(path), read((decoded, rate)), atol=1e-6)  # and a warning would be an error


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
def test_all_links_of_a_chain_are_read(sound, suffix):
    """Also where they differ in rate and channels, and where the first of all pages is not the first of a link."""
    links = [sound(f"{rate}{suffix}", rate, seconds, channels=channels) for rate, seconds, channels in LINKS]
    chain = changed(links[0], lambda content: content + b"junk" + b"".join(link.read_bytes() for link in links[1:]))
    assert torch.equal(read(chain), torch.cat([read(link) for link in links]))


LINKS = (16_000, 1, 1), (48_000, 2, 2), (16_000, 1, 1)


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".mp3"])
def test_how_much_of_a_truncated_file_is_missing(sound, suffix):
    path = sound(f"a{suffix}")
    with pytest.warns(UserWarning, match="is cut off or damaged") as caught:
        wav = read(changed(path, half))
    missing, total = map(float, re.search(r": ([\d.]+) of its ([\d.]+) seconds are", str(caught[0].message)).groups())
    assert (missing, total) == (pytest.approx(SECONDS / 2, abs=0.2), pytest.approx(SECONDS, abs=0.11))
    assert len(wav) / 16_000 == pytest.approx(SECONDS - missing, abs=0.15)
    assert torch.allclose(wav[:16_000], read(path)[:16_000], atol=1e-4)


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
def test_a_truncated_ogg_has_no_end_mark(sound, suffix):
    """And so it declares no length."""
    path = changed(sound(f"a{suffix}"), half)
    with pytest.warns(
        UserWarning, match=r"changed-a.* ends after (0\.9|1\.0) seconds without an end mark; if it was cut off,"
    ):
        assert 0.8 < len(read(path)) / 16_000 < 1


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3"])
def test_damage_is_said_by_us_alone(sound, suffix, capfd):
    path = changed(sound(f"a{suffix}", seconds=8), zeroed)
    with pytest.warns(UserWarning, match="is cut off or damaged") as caught:
        wav = read(path)
    missing = float(re.search(r": ([\d.]+) of its", str(caught[0].message))[1])
    assert 1 < missing < 4 and len(wav) / 16_000 == pytest.approx(8 - missing, abs=0.2)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (11_025, 1)])
def test_an_mp3_without_a_length_is_read_to_its_end(tmp_path, mode, rate, channels, capfd):
    """Its length would be guessed from the first frame, and the rest be lost."""
    wav = (
        np.random.default_rng(0).normal(size=(SECONDS * rate, channels)) * np.linspace(0, 0.2, SECONDS * rate)[:, None]
    )
    soundfile.write(tmp_path / "a.mp3", wav, rate, bitrate_mode=mode)
    content = (tmp_path / "a.mp3").read_bytes()
    second = content.index(content[:2], 4)
    path = tmp_path / "b.mp3"
    path.write_bytes(content[second:])
    assert len(read(path)) / 16_000 == pytest.approx(SECONDS, abs=0.1)
    assert abs(float(read(path).square().mean() / read(tmp_path / "a.mp3").square().mean()) - 1) < 0.02
    path.write_bytes(content[second:-10])
    read(path)  # it declares nothing, so nothing is said
    assert capfd.readouterr().err == ""


def test_mp3s_one_after_the_other_are_all_read(sound, capfd):
    first, second = sound("a.mp3"), sound("b.mp3", 44_100, channels=2)
    both = changed(first, lambda content: content + second.read_bytes())
    assert torch.equal(read(both), torch.cat([read(first), read(second)]))
    assert capfd.readouterr().err == ""


def test_tags_and_pictures_are_no_damage(sound, capfd):
    path = sound("a.mp3")
    picture = bytes([255, 251, 144, 64]) * 500  # which looks like a frame
    tag = b"ID3\4\0\0" + bytes((0, 0, len(picture) >> 7, len(picture) & 127)) + picture
    tagged = changed(path, lambda content: tag + tag + content + b"TAG".ljust(128, b"x"))
    assert torch.equal(read(tagged), read(path))
    assert capfd.readouterr().err == ""


def test_a_length_in_a_vbri_header_counts(sound):
    content = bytearray(sound("a.mp3", 44_100, channels=2).read_bytes())
    frames = struct.unpack_from(">I", content, 44)[0]
    content[36:54] = b"VBRI".ljust(14, b"\0") + struct.pack(">I", frames)
    path = sound("b.mp3")
    path.write_bytes(content)
    with warnings.catch_warnings():
        assert len(read(path)) / 16_000 == pytest.approx(SECONDS, abs=0.1)
    path.write_bytes(half(content))
    with pytest.warns(UserWarning, match="is cut off or damaged"):
        read(path)


@pytest.mark.parametrize(
    "content", [b"ID3", b"ID3\4\0\0\x7f\x7f\x7f\x7f", b"OggS", b"OggS" + bytes(23), b"\xff\xfb\x90\x00"]
)
def test_what_is_not_whole_is_opened_as_it_is(tmp_path, content):
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    assert [part.content for part in split(path)] == [None]


def test_what_looks_like_a_frame_in_another_format_is_none(sound):
    """The name says MP3, and the content is a wav."""
    path = sound("a.wav")
    frames = (bytes([255, 251, 144, 64]) + bytes(413)) * 3
    other = path.with_name("b.mp3")
    other.write_bytes(path.read_bytes()[: -len(frames)] + frames)
    assert len(read(other)) == SECONDS * 16_000


def test_a_huge_file_is_opened_as_it_is(sound, monkeypatch):
    path = sound("a.mp3")
    monkeypatch.setattr("ssl_vc.containers.LARGEST", path.stat().st_size - 1)
    assert split(path)[0].content is None
