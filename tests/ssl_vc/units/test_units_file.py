"""Files of units: exact there and back, as long as they say, and nothing else is read."""

import random
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_vc.units.bits import Reader, fixed, gamma, to_bytes, width_of
from ssl_vc.units.codec import bitrate, entropy
from ssl_vc.units.file import HEAD, Units


@given(st.lists(st.integers(1, 2**20)), st.lists(st.integers(0, 2**13 - 1)))
def test_bits_there_and_back(lengths, numbers):
    reader = Reader(to_bytes(gamma(lengths), fixed(numbers, 13)))
    assert reader.gamma(len(lengths)).tolist() == lengths
    assert reader.fixed(len(numbers), 13).tolist() == numbers
    reader.end()


def test_how_long_numbers_are():
    assert [width_of(kinds) for kinds in (2, 3, 20, 100, 128, 129, 500)] == [1, 2, 5, 7, 7, 8, 9]
    assert [len(gamma([number])) for number in (1, 2, 3, 4, 7, 8)] == [1, 3, 3, 5, 5, 7]
    assert to_bytes(fixed([5], 3), fixed([1], 1)) == bytes([0b10110000])


def made(layout="runs", pitches=20, voice=True, seed=0):
    """Make units of some random speech."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(below, count):
        return torch.randint(0, below, (count,), generator=generator)

    lengths = numbers(6, 40) + 1
    frames = int(lengths.sum())
    ids = numbers(100, frames if layout == "frames" else 40)
    moments = {0: 0, 20: 40 if layout == "ids" else -(-frames // 4), 256: frames}[pitches]
    return Units(
        "0123456789abcdef",
        100,
        320 * frames - 5,
        ids,
        lengths if layout == "runs" else None,
        layout,
        numbers(pitches, moments) if pitches else None,
        pitches,
        120.0 if voice else 0.0,
        torch.randn(80, generator=generator).half().float() if voice else None,
    )


EVERY = [(layout, pitches, voice) for layout in ("frames", "runs", "ids") for pitches in (0, 20, 256) for voice in "ny"]


@pytest.mark.parametrize(("layout", "pitches", "voice"), EVERY)
def test_a_file_there_and_back(tmp_path, layout, pitches, voice):
    units = made(layout, pitches, voice == "y")
    again = Units.load(units.save(tmp_path / "a.units"))
    for name in ("codec", "clusters", "samples", "layout", "pitches"):
        assert getattr(again, name) == getattr(units, name)
    for name in ("ids", "lengths", "pitch", "timbre"):
        one, other = getattr(units, name), getattr(again, name)
        assert (one is None and other is None) or torch.equal(one, other)
    assert again.level == pytest.approx(units.level, rel=2e-3)
    assert again.to_bytes() == units.to_bytes() == (tmp_path / "a.units").read_bytes()


def test_rates():
    """By hand: 7 bits an id at 50 a second, 5 bits a code at 12.5 a second, 16 bits a number of the voice."""
    units = replace(made("frames"), samples=320 * made("frames").frames)
    seconds = units.samples / 16_000
    rates = bitrate(units)
    assert rates["content"] == pytest.approx(350)
    assert rates["pitch"] == pytest.approx(5 * -(-units.frames // 4) / seconds)
    assert rates["voice"] == pytest.approx(16 * 81 / seconds)
    assert rates["entropy"] < 350
    size = 8 * (len(units.to_bytes()) - HEAD.size - 4)
    assert 0 <= size - seconds * (rates["content"] + rates["pitch"] + rates["voice"]) < 8
    runs = made("runs")
    assert bitrate(runs)["content"] == pytest.approx(
        (7 * len(runs.ids) + len(gamma(runs.lengths.tolist()))) * 16_000 / runs.samples
    )


def test_entropy():
    assert entropy(torch.tensor([1, 1, 1, 1])) == pytest.approx(2)
    assert entropy(torch.tensor([8, 0])) == 0
    assert entropy(torch.tensor([1, 3])) == pytest.approx(0.811278)


@pytest.mark.parametrize("layout", ["frames", "runs", "ids"])
def test_what_is_cut_off_is_refused(layout):
    whole = made(layout).to_bytes()
    for size in range(len(whole)):
        with pytest.raises(ValueError):
            Units.from_bytes(whole[:size])
    with pytest.raises(ValueError, match="damaged"):
        Units.from_bytes(whole + b"\0")


def test_a_wrong_bit_is_refused(tmp_path):
    whole = made().to_bytes()
    for at in range(8 * len(whole)):
        broken = bytearray(whole)
        broken[at // 8] ^= 1 << at % 8
        with pytest.raises(ValueError):
            Units.from_bytes(bytes(broken))
    (tmp_path / "no.units").write_bytes(whole[:50])
    with pytest.raises(ValueError, match=r"no\.units is no file of units that this version reads: it is damaged"):
        Units.load(tmp_path / "no.units")
    with pytest.raises(ValueError, match="cannot be read"):
        Units.load(tmp_path / "nowhere.units")


FIELDS = {2: 8, 3: 16, 4: 8, 6: 16, 7: 32, 8: 32}  # of the header, and how many bits each has


def test_a_liar_with_the_right_checksum_is_refused():
    """Whatever the header claims, what is read agrees with itself, or there is a sentence."""
    whole = made().to_bytes()
    head, body = HEAD.unpack_from(whole), whole[HEAD.size : -4]
    chance, read = random.Random(0), 0
    for _ in range(3000):
        liar, field = list(head), chance.choice(list(FIELDS))
        liar[field] = chance.choice([0, 1, 2, 3, 99, 255, liar[field] + 1, 2**31]) % 2 ** FIELDS[field]
        noise = body if chance.random() < 0.5 else chance.randbytes(len(body))
        told = HEAD.pack(*liar) + noise
        try:
            units = Units.from_bytes(told + struct.pack("<I", zlib.crc32(told)))
        except ValueError:
            continue
        read += 1
        assert int(units.ids.max()) < units.clusters
        assert units.layout == "ids" or len(units.every_frame) == units.frames
        assert units.to_bytes()
    assert read


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"layout": "words"}, "the layout 'words'"),
        ({"samples": 0}, "0 samples"),
        ({"clusters": 1}, "1 clusters"),
        ({"ids": torch.tensor([100])}, "none of 100 clusters"),
        ({"ids": torch.tensor([], dtype=torch.int64)}, "none of 100 clusters"),
        ({"lengths": None}, "but no lengths"),
        ({"lengths": torch.ones(3, dtype=torch.int64)}, "one for each run"),
        ({"samples": 320}, "frames, and 320 samples"),
        ({"pitches": 0}, "0 pitches, and some pitch"),
        ({"pitch": torch.tensor([0])}, "numbers of pitch"),
        ({"level": 0.0}, "a voice without a pitch"),
    ],
)
def test_units_that_do_not_agree_are_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        replace(made(), **change)


def test_every_frame():
    assert torch.equal(made().every_frame, torch.from_numpy(np.repeat(made().ids.numpy(), made().lengths.numpy())))
