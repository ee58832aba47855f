"""A file of units decodes to what a file of its size can hold, in pieces."""

import os
import struct
import zlib

import pytest
import torch

from ssl_vc.units.analyzer import CHUNK
from ssl_vc.units.codebook import run_length_encode
from ssl_vc.units.codec import UnitCodec
from ssl_vc.units.file import HEAD, LONGEST_RUN, MAX_SAMPLES, Units
from ssl_vc.units.prosody import ProsodyPredictor

MINUTE = 60 * 16_000


@pytest.fixture(scope="module")
def codec():
    return UnitCodec.from_pretrained("tiny")


def file_of(codec, layout, samples, count, body):
    """Returns a file that claims so many samples and ids, with a correct checksum."""
    book = codec.codebook
    data = (
        HEAD.pack(b"SVCU", 1, layout, 0, 0, bytes.fromhex(book.fingerprint), book.clusters - 1, samples, count) + body
    )
    return data + struct.pack("<I", zlib.crc32(data))


@pytest.mark.parametrize("hours", [24, 6, 0.02])
@pytest.mark.parametrize(("layout", "body"), [(1, None), (2, b"\0")])
def test_a_small_file_does_not_hold_hours(codec, tmp_path, hours, layout, body):
    samples = round(hours * 60) * MINUTE
    frames = samples // 320
    if body is None:  # one run, whose length is in the file
        bits = "0" * 7 + "0" * (frames.bit_length() - 1) + f"{frames:b}"
        body = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    path = tmp_path / "a.units"
    path.write_bytes(file_of(codec, layout, samples, 1, body))
    assert path.stat().st_size <= 38
    if samples == MINUTE:
        assert Units.load(path).samples == MINUTE
        return
    with pytest.raises(ValueError, match=r"an id lasts one minute at most|samples and 1 ids are inconsistent"):
        Units.load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "a.units")
    with pytest.raises(
        ValueError, match=r"this version reads: .*a\.units is a pipe or a device; give a regular file\.$"
    ):
        Units.load(tmp_path / "a.units")
    (tmp_path / "b.units").touch()
    os.truncate(tmp_path / "b.units", 2**33)  # takes no space
    with pytest.raises(ValueError, match="has 8589934592 bytes"):
        Units.load(tmp_path / "b.units")


def test_long_runs_are_divided():
    ids = torch.tensor([7] * (2 * LONGEST_RUN + 5) + [3, 3] + [4] * LONGEST_RUN)
    runs, lengths = run_length_encode(ids, LONGEST_RUN)
    assert runs.tolist() == [7, 7, 7, 3, 4]
    assert lengths.tolist() == [LONGEST_RUN, LONGEST_RUN, 5, 2, LONGEST_RUN]
    assert torch.equal(runs.repeat_interleave(lengths), ids)
    assert run_length_encode(ids)[1].tolist() == [2 * LONGEST_RUN + 5, 2, LONGEST_RUN]


@pytest.mark.parametrize("layout", ["frames", "runs", "ids"])
def test_minutes_of_silence_can_be_encoded_and_read_again(codec, speech, tmp_path, monkeypatch, layout):
    monkeypatch.setattr("ssl_vc.units.codec.LONGEST_RUN", 50)  # as if a second were a minute
    wav = torch.cat([speech(1), torch.zeros(4 * 16_000)])
    units = codec.encode(wav, layout=layout)
    assert units.lengths is None or int(units.lengths.max()) <= 50
    again = Units.load(units.save(tmp_path / "a.units"))
    assert len(codec.expand(again, 120.0)[0]) == units.frames == 250


def test_the_longest_recording_is_the_longest_that_is_read(codec):
    assert MAX_SAMPLES == 6 * 3600 * 16_000
    with pytest.raises(ValueError, match="inconsistent"):
        Units.from_bytes(file_of(codec, 2, MAX_SAMPLES + 1, 1, b"\0"))


def test_frames_are_assembled_in_pieces(codec, monkeypatch):
    """Whatever the pieces, the frames are those of the whole, F0 that is interpolated across them included."""
    torch.manual_seed(0)
    ids, f0 = torch.randint(0, 100, (1000,)), 100 + 100 * torch.rand(1000)
    f0[100:900] = 0
    whole = codec.analyzer.frames(ids, f0, codec.codebook.timbre)
    monkeypatch.setattr("ssl_vc.units.analyzer.CHUNK", 64)
    pieces = list(codec.analyzer.stream(ids, f0, codec.codebook.timbre))
    assert {len(piece) for piece in pieces} == {64, 1000 % 64}
    assert torch.equal(torch.cat(pieces), whole)


def test_the_vocoder_gets_pieces(codec, monkeypatch):
    ids = torch.arange(2 * CHUNK + 10) % 100
    units = Units(codec=codec.codebook.fingerprint, clusters=100, samples=320 * len(ids), ids=ids)
    sizes = []
    monkeypatch.setattr(codec.vocoder, "_vocode", lambda chunks: ((sizes.append(len(c)), c[:, 0])[1] for c in chunks))
    codec.decode(units, loudness=None)
    assert sizes == [CHUNK, CHUNK, 10]


def test_unit_selection_in_pieces(codec, monkeypatch):
    """Neighbouring units count across the edges of pieces too."""
    ids = torch.randint(0, 100, (500,), generator=torch.Generator().manual_seed(0))
    (whole,) = codec._in_context(ids)
    monkeypatch.setattr("ssl_vc.units.codec.CHUNK", 64)
    assert torch.equal(torch.cat(list(codec._in_context(ids))), whole)


def test_prosody_is_predicted_in_pieces(monkeypatch):
    torch.manual_seed(0)
    predictor, ids = ProsodyPredictor(20).eval(), torch.randint(0, 20, (300,))
    whole = predictor.predict(ids)
    monkeypatch.setattr("ssl_vc.units.prosody.CHUNK", 16)
    pieces = predictor.predict(ids)
    assert torch.equal(pieces.durations, whole.durations)
    assert torch.allclose(pieces.log_f0, whole.log_f0, atol=1e-5)
