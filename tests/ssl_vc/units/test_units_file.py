"""Files of units: exact round trips, the stated size, and nothing else is read."""

import random
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_vc.units.bits import BitReader, fixed, gamma, to_bytes, width_of
from ssl_vc.units.codec import bitrate, entropy
from ssl_vc.units.file import HEAD, Units


@given(st.lists(st.integers(1, 2**20)), st.lists(st.integers(0, 2**13 - 1)))
def test_bits_round_trip(lengths, numbers):
    reader = BitReader(to_bytes(gamma(lengths), fixed(numbers, 13)))
    assert reader.gamma(len(lengths)).tolist() == lengths
    assert reader.fixed(len(numbers), 13).tolist() == numbers
    reader.end()


def test_code_lengths():
    assert [width_of(kinds) for kinds in (2, 3, 20, 100, 128, 129, 500)] == [1, 2, 5, 7, 7, 8, 9]
    assert [len(gamma([number])) for number in (1, 2, 3, 4, 7, 8)] == [1, 3, 3, 5, 5, 7]
    assert to_bytes(fixed([5], 3), fixed([1], 1)) == bytes([0b10110000])


def random_units(layout="runs", levels=20, voice=True, seed=0):
    """Returns random units."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(below, count):
        return torch.randint(0, below, (count,), generator=generator)

    lengths = numbers(6, 40) + 1
    frames = int(lengths.sum())
    ids = numbers(100, frames if layout == "frames" else 40)
    values = {0: 0, 20: 40 if layout == "ids" else -(-frames // 4), 256: frames}[levels]
    return Units(
        codec="0123456789abcdef",
        clusters=100,
        samples=320 * frames - 5,
        ids=ids,
        lengths=lengths if layout == "runs" else None,
        layout=layout,
        pitch=numbers(levels, values) if levels else None,
        pitch_levels=levels,
        median_f0=120.0 if voice else 0.0,
        timbre=torch.randn(80, generator=generator).half().float() if voice else None,
    )


EVERY = [(layout, levels, voice) for layout in ("frames", "runs", "ids") for levels in (0, 20, 256) for voice in "ny"]


@pytest.mark.parametrize(("layout", "levels", "voice"), EVERY)
def test_file_round_trip(tmp_path, layout, levels, voice):
    units = random_units(layout, levels, voice == "y")
    again = Units.load(units.save(tmp_path / "a.units"))
    for name in ("codec", "clusters", "samples", "layout", "pitch_levels"):
        assert getattr(again, name) == getattr(units, name)
    for name in ("ids", "lengths", "pitch", "timbre"):
        one, other = getattr(units, name), getattr(again, name)
        assert (one is None and other is None) or torch.equal(one, other)
    assert again.median_f0 == pytest.approx(units.median_f0, rel=2e-3)
    assert again.to_bytes() == units.to_bytes() == (tmp_path / "a.units").read_bytes()


def test_rates():
    """By hand: 7 bits per id at 50 Hz, 5 bits per F0 code at 12.5 Hz, 16 bits per value of the voice."""
    units = replace(random_units("frames"), samples=320 * random_units("frames").frames)
    seconds = units.samples / 16_000
    rates = bitrate(units)
    assert rates["content"] == pytest.approx(350)
    assert rates["pitch"] == pytest.approx(5 * -(-units.frames // 4) / seconds)
    assert rates["voice"] == pytest.approx(16 * 81 / seconds)
    assert rates["entropy"] < 350
    size = 8 * (len(units.to_bytes()) - HEAD.size - 4)
    assert 0 <= size - seconds * (rates["content"] + rates["pitch"] + rates["voice"]) < 8
    runs = random_units("runs")
    assert bitrate(runs)["content"] == pytest.approx(
        (7 * len(runs.ids) + len(gamma(runs.lengths.tolist()))) * 16_000 / runs.samples
    )


def test_entropy():
    assert entropy(torch.tensor([1, 1, 1, 1])) == pytest.approx(2)
    assert entropy(torch.tensor([8, 0])) == 0
    assert entropy(torch.tensor([1, 3])) == pytest.approx(0.811278)


@pytest.mark.parametrize("layout", ["frames", "runs", "ids"])
def test_truncated_files_are_refused(layout):
    whole = random_units(layout).to_bytes()
    for size in range(len(whole)):
        with pytest.raises(ValueError):
            Units.from_bytes(whole[:size])
    with pytest.raises(ValueError, match="damaged"):
        Units.from_bytes(whole + b"\0")


def test_a_wrong_bit_is_refused(tmp_path):
    whole = random_units().to_bytes()
    for at in range(8 * len(whole)):
        broken = bytearray(whole)
        broken[at // 8] ^= 1 << at % 8
        with pytest.raises(ValueError):
            Units.from_bytes(bytes(broken))
    (tmp_path / "no.units").write_bytes(whole[:50])
    with pytest.raises(ValueError, match=r"no\.units is not a \.units file that this version reads: it is damaged"):
        Units.load(tmp_path / "no.units")
    with pytest.raises(ValueError, match="cannot be read"):
        Units.load(tmp_path / "nowhere.units")


FIELDS = {2: 8, 3: 16, 4: 8, 6: 16, 7: 32, 8: 32}  # of the header, and how many bits each has


def test_a_false_header_with_the_right_checksum_is_refused():
    """Whatever the header claims, the units read are consistent, or it is refused."""
    whole = random_units().to_bytes()
    head, body = HEAD.unpack_from(whole), whole[HEAD.size : -4]
    rng, read = random.Random(0), 0
    for _ in range(3000):
        header, field = list(head), rng.choice(list(FIELDS))
        header[field] = rng.choice([0, 1, 2, 3, 99, 255, header[field] + 1, 2**31]) % 2 ** FIELDS[field]
        noise = body if rng.random() < 0.5 else rng.randbytes(len(body))
        data = HEAD.pack(*header) + noise
        try:
            units = Units.from_bytes(data + struct.pack("<I", zlib.crc32(data)))
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
        ({"ids": torch.tensor([100])}, "ids outside of 100 clusters"),
        ({"ids": torch.tensor([], dtype=torch.int64)}, "ids outside of 100 clusters"),
        ({"lengths": None}, "without lengths"),
        ({"lengths": torch.ones(3, dtype=torch.int64)}, "not one per run"),
        ({"samples": 320}, "frames, and 320 samples"),
        ({"pitch_levels": 0}, "0 pitch levels, and some pitch"),
        ({"pitch": torch.tensor([0])}, "pitch values"),
        ({"median_f0": 0.0}, "a voice without a median F0"),
    ],
)
def test_inconsistent_units_are_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        replace(random_units(), **change)


def test_every_frame():
    units = random_units()
    assert torch.equal(units.every_frame, torch.from_numpy(np.repeat(units.ids.numpy(), units.lengths.numpy())))
