"""Packs and segments: frames are aligned with their samples, and an index always gives the same segment."""

import logging
import shutil

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from vocoder.training.data import Clip, Pack, find_clips, pack_clips
from vocoder.training.segments import SegmentDataset, batch_indices

HOP = 100
SHAPE = {"sample_rate": 16_000, "hop_length": HOP}


def index_wav(frames, start=0):
    """A clip whose samples encode their frame's index."""
    return np.repeat((start + np.arange(frames)) / 1000, HOP).astype(np.float32)


def encode_index(wav, sample_rate):
    """Frames that encode the same."""
    return wav[::HOP, None].repeat(1, 3)


@pytest.fixture
def folder(tmp_path):
    for index, frames in enumerate((30, 50, 20)):
        soundfile.write(tmp_path / f"{index}.wav", index_wav(frames, 100 * index), 16_000, subtype="FLOAT")
    return tmp_path


def test_frames_are_aligned_with_their_samples(folder):
    pack = pack_clips(find_clips(folder), folder / "pack", **SHAPE, featurize=encode_index, reads={"kind": "ssl"})
    assert (pack.lengths, pack.dim) == ([30, 50, 20], 3)
    segments = SegmentDataset(pack, 12, seed=3)
    seen = set()
    for number in range(900):
        frames, wav, bandwidth = segments[number]
        assert frames.shape == (12, 3) and bandwidth == 8000
        assert wav.shape == (12 * HOP,)
        assert torch.allclose(wav.view(12, HOP), frames[:, :1].expand(12, HOP), atol=1e-3)
        steps = wav.view(12, HOP)[:, 0].diff()
        assert torch.allclose(steps, torch.full_like(steps, 1e-3), atol=1e-4)  # never across two clips
        seen.add(round(float(wav[0]) * 1000))
    assert seen <= {*range(19), *range(100, 139), *range(200, 209)}
    assert len(seen) == 19 + 39 + 9


def test_a_clips_bandwidth_is_that_of_its_file(folder):
    rng = np.random.default_rng(0)
    for rate in (16_000, 24_000, 48_000):
        soundfile.write(folder / f"{rate}.wav", 0.1 * rng.normal(size=rate), rate)
    paths = [folder / f"{rate}.wav" for rate in (16_000, 24_000, 48_000)]
    pack = pack_clips([Clip(path) for path in paths], folder / "pack", sample_rate=24_000, hop_length=480)
    assert pack.bandwidths == [8000, 12_000, 12_000]
    assert {float(part.bandwidth) for part in map(SegmentDataset(pack, 5, seed=0).__getitem__, range(40))} == {
        8e3,
        12e3,
    }
    index = folder / "pack" / "index.json"
    text = index.read_text().replace('"bandwidths": [8000.0, 12000.0, 12000.0], ', "")  # as older versions wrote it
    assert "bandwidths" not in text
    index.write_text(text)
    assert float(Pack.open(folder / "pack").clip(0).bandwidth) == 12_000


def test_other_clips_are_packed_again(folder):
    clips = find_clips(folder)
    pack_clips(clips, folder / "pack", **SHAPE)
    index = folder / "pack" / "index.json"
    before = index.stat().st_mtime_ns
    assert pack_clips(clips, folder / "pack", **SHAPE).lengths == [30, 50, 20]
    assert index.stat().st_mtime_ns == before
    assert pack_clips(clips[:2], folder / "pack", **SHAPE).lengths == [30, 50]
    assert pack_clips(clips[:2], folder / "pack", **SHAPE, featurize=encode_index, reads={"kind": "ssl"}).dim == 3


@pytest.mark.parametrize("name", ["pack", ".pack.part"])
@pytest.mark.parametrize("whole", [True, False])
def test_files_of_others_are_kept(folder, name, whole):
    clips, place = find_clips(folder), folder / name
    pack_clips(clips, folder / "pack", **SHAPE)
    if not whole:
        shutil.rmtree(folder / "pack")
    place.mkdir(exist_ok=True)
    (place / "notes").mkdir()
    (place / "notes" / "thesis.txt").write_text("years")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=f"{name} would be replaced, but this training did not write notes in it"):
        pack_clips(clips[:2], folder / "pack", **SHAPE)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_link_is_not_replaced(folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "audio.i16").write_text("years")
    (folder / "pack").symlink_to(folder / "mine")
    with pytest.raises(ValueError, match="pack is a link"):
        pack_clips(find_clips(folder), folder / "pack", **SHAPE)
    assert (folder / "mine" / "audio.i16").read_text() == "years"


def test_what_a_killed_run_left_is_replaced(folder):
    (folder / ".pack.part").mkdir()
    (folder / ".pack.part" / "audio.i16").write_text("half")
    assert pack_clips(find_clips(folder), folder / "pack", **SHAPE).lengths == [30, 50, 20]
    assert not (folder / ".pack.part").exists()


def test_segments_are_reproducible(folder):
    pack = pack_clips(find_clips(folder), folder / "pack", **SHAPE)
    again = SegmentDataset(Pack.open(folder / "pack"), 12, seed=3)
    assert all(torch.equal(SegmentDataset(pack, 12, seed=3)[n].wav, again[n].wav) for n in (0, 7, 10**9))
    assert any(not torch.equal(SegmentDataset(pack, 12, seed=4)[n].wav, again[n].wav) for n in range(3))
    assert again[0].frames.shape == (12, 0)


def test_processes_split_a_batch():
    whole = list(batch_indices(5, 9, 6))
    parts = [list(batch_indices(5, 9, 6, rank, 3)) for rank in range(3)]
    assert [[number for part in step for number in part] for step in zip(*parts, strict=True)] == whole
    assert whole[0] == [30, 31, 32, 33, 34, 35]


def test_unusable_clips_are_named(folder, caplog):
    (folder / "noise.wav").write_bytes(b"nothing")
    soundfile.write(folder / "short.wav", index_wav(2), 16_000)
    soundfile.write(folder / "nan.wav", np.full(9000, np.nan, np.float32), 16_000, subtype="FLOAT")
    with caplog.at_level(logging.WARNING, "vocoder"):
        pack = pack_clips(find_clips(folder), folder / "pack", **SHAPE, shortest=4)
    assert pack.names == ["0.wav", "1.wav", "2.wav"]
    assert "skipped 3 unusable clips" in caplog.text
    assert all(
        name in caplog.text for name in ("noise.wav", "short.wav (too short: 2 frames of 4)", "nan.wav (not finite)")
    )
    with pytest.raises(ValueError, match="no clip is usable; the first: noise"):
        pack_clips([Clip(folder / "noise.wav")], folder / "other", **SHAPE)
    assert not (folder / "other").exists()


def test_stereo_and_other_rates(folder):
    left = np.sin(np.arange(48_000) / 20).astype(np.float32)
    soundfile.write(folder / "stereo.flac", np.stack([left, np.zeros_like(left)], 1), 48_000)
    pack = pack_clips([Clip(folder / "stereo.flac")], folder / "pack", **SHAPE)
    assert pack.lengths == [160]
    assert abs(float(pack.clip(0).wav.abs().max()) - 0.5) < 0.01


def test_tables(folder):
    frames = folder / "1.safetensors"
    save_file({"frames": torch.zeros(50, 3)}, frames, {"spec": '{"encoder": "ab", "layer": 6}'})
    (folder / "clips.tsv").write_text("path\tsplit\tframes\n0.wav\ttrain\t\n1.wav\tdev\t1.safetensors\n")
    assert find_clips(folder / "clips.tsv") == [Clip(folder / "0.wav"), Clip(folder / "1.wav", frames)]
    (clip,) = find_clips(folder / "clips.tsv", "dev")
    reads = {"kind": "ssl", "dim": 3, "encoder": "ab", "layer": 6}
    assert pack_clips([clip], folder / "pack", **SHAPE, reads=reads).dim == 3
    with pytest.raises(ValueError, match="features differ from the first"):
        pack_clips([clip], folder / "pack2", **SHAPE, reads=reads | {"layer": 5})


@pytest.mark.parametrize(
    ("text", "split", "sentence"),
    [("name\nx.wav\n", None, "one of them 'path'"), ("path\tsplit\nx.wav\tdev\n", "train", "no clips of the split")],
)
def test_wrong_tables_are_refused(tmp_path, text, split, sentence):
    (tmp_path / "clips.tsv").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        find_clips(tmp_path / "clips.tsv", split)
    with pytest.raises(ValueError, match="there are no clips at"):
        find_clips(tmp_path / "nowhere")


def test_segments_longer_than_every_clip_are_refused(folder):
    pack = pack_clips(find_clips(folder), folder / "pack", **SHAPE)
    with pytest.raises(ValueError, match="no clip has the 60 frames"):
        SegmentDataset(pack, 60, seed=0)
