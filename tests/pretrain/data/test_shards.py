import json
import tarfile
from io import BytesIO
from itertools import islice

import numpy as np
import pytest
import soundfile
from torch.utils.data import DataLoader

from pretrain.data.manifest import Clip, decode
from pretrain.data.shards import Shards, write_shards

KINDS = {".wav": {}, ".flac": {}, ".mp3": {}, ".opus": {"format": "OGG", "subtype": "OPUS"}}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Forty clips in four formats, of 0.1 to 0.3 s."""
    folder, rng, made = tmp_path_factory.mktemp("clips"), np.random.default_rng(0), []
    for number in range(40):
        kind = list(KINDS)[number % len(KINDS)]
        path = folder / f"some.dir{number}{kind}"
        sound = np.sin(np.arange(rng.integers(1600, 4800)) * (0.02 + 0.005 * number)) / 2
        soundfile.write(path, sound, 16_000, **KINDS[kind])
        seconds = soundfile.info(path).duration
        made.append(Clip(f"one/{path.name}", path, seconds, f"speaker{number % 3}", f"text ü {number}", "en"))
    return made


@pytest.fixture(scope="module")
def folder(clips, tmp_path_factory):
    """The clips in about eight shards."""
    folder = tmp_path_factory.mktemp("shards") / "all"
    size = sum(clip.path.stat().st_size for clip in clips)
    write_shards(clips, folder, megabytes=size / 7.5e6)
    return folder


def keys(stream):
    return [clip.key for clip, _ in stream]


def test_clips_come_back_as_they_were(clips, folder):
    by_key = {clip.key: clip for clip in clips}
    for clip, samples in Shards(folder).stream(0):
        was = by_key.pop(clip.key)
        assert (clip.speaker, clip.text, clip.language) == (was.speaker, was.text, was.language)
        assert clip.seconds == len(samples) / 16_000
        assert samples.dtype == np.float32
        assert (samples == decode(was.path)).all()
    assert not by_key


def test_the_index_tells_what_is_there(clips, folder):
    index = json.loads((folder / "index.json").read_text())
    assert Shards(folder).index == index
    assert [shard["name"] for shard in index["shards"]] == [f"shard-{n:06d}.tar" for n in range(8)]
    assert index["clips"] == sum(shard["clips"] for shard in index["shards"]) == 40
    assert np.isclose(index["seconds"], sum(len(decode(clip.path)) for clip in clips) / 16_000)
    sizes = [(folder / shard["name"]).stat().st_size for shard in index["shards"]]
    assert max(sizes) < 2.5 * min(sizes)
    with tarfile.open(folder / "shard-000000.tar") as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar}
    by_key = {clip.key: clip for clip in clips}
    for name, content in contents.items():
        if name.endswith(".json"):
            path = by_key[json.loads(content)["key"]].path
            assert contents[name.removesuffix(".json") + path.suffix] == path.read_bytes()


def test_the_fingerprint_is_of_the_contents(clips, folder, tmp_path):
    mark = Shards(folder).index["fingerprint"]
    other_order = write_shards(clips[::-1], tmp_path / "a", seed=5)
    assert other_order.index["fingerprint"] == mark
    assert write_shards(clips[1:], tmp_path / "b").index["fingerprint"] != mark
    for part, workers in (("c", 1), ("d", 3)):
        write_shards(clips, tmp_path / part, seed=5, workers=workers)
    assert (tmp_path / "c/shard-000000.tar").read_bytes() == (tmp_path / "d/shard-000000.tar").read_bytes()


@pytest.mark.parametrize("shards", [8, 3, 1])
def test_all_readers_together_read_every_clip_once(clips, folder, shards, tmp_path):
    if shards < 8:
        size = sum(clip.path.stat().st_size for clip in clips)
        folder = tmp_path / "few"
        write_shards(clips, folder, megabytes=size / (shards - 0.5) / 1e6)
    assert len(Shards(folder).urls) == shards
    readers = [Shards(folder, rank=rank, world_size=2).stream(4, 0, worker, 2) for rank in (0, 1) for worker in (0, 1)]
    read = [keys(reader) for reader in readers]
    assert sorted(key for some in read for key in some) == sorted(clip.key for clip in clips)
    assert min(map(len, read)) >= (5 if shards == 8 else 10)


def test_an_order_follows_from_seed_epoch_and_reader(folder):
    def order(epoch=0, seed=0, buffer=10, **who):
        return keys(Shards(folder, seed=seed, buffer=buffer, **who).stream(epoch))

    first = order()
    assert first == order()
    assert sorted(first) == sorted(order(1)) == sorted(order(seed=1))
    assert len({tuple(order(*which)) for which in ((0, 0), (1, 0), (0, 1), (0, 0, 1), (0, 0, 40))}) == 5
    unshuffled = [order(epoch, buffer=1) for epoch in (0, 1)]
    assert unshuffled[0] != unshuffled[1]  # the shards' order
    assert sorted(unshuffled[0]) == sorted(unshuffled[1])
    one = Shards([folder / "shard-000000.tar"], seed=1)
    assert keys(one.stream(0)) != keys(one.stream(1))  # the buffer's order


@pytest.mark.parametrize("skip", [0, 1, 7, 39, 40, 50])
def test_skipping_is_slicing_without_decoding(folder, skip, monkeypatch):
    whole = keys(Shards(folder, buffer=5).stream(2))
    decoded = []
    monkeypatch.setattr("pretrain.data.shards.decode", lambda data: decoded.append(data) or decode(data))
    assert keys(Shards(folder, buffer=5).stream(2, skip)) == whole[skip:]
    assert len(decoded) == len(whole[skip:])


def test_a_loader_reads_it(clips, folder):
    shards = Shards(folder, seed=3)
    shards.epoch, shards.skip = 1, 2
    with_worker = DataLoader(shards, batch_size=None, num_workers=1)
    assert keys(with_worker) == keys(shards) == keys(Shards(folder, seed=3).stream(1, 2))
    shards.skip = 0
    two = keys(DataLoader(shards, batch_size=None, num_workers=2))
    assert sorted(two) == sorted(clip.key for clip in clips)


def broken_copy(folder, target, change):
    """Copy shards, one of them changed."""
    target.mkdir()
    for path in folder.glob("*.tar"):
        data = path.read_bytes()
        (target / path.name).write_bytes(change(data) if path.name == "shard-000003.tar" else data)
    return target


def held(path):
    with tarfile.open(path) as tar:
        return [json.loads(tar.extractfile(member).read())["key"] for member in tar if member.name.endswith("json")]


@pytest.mark.parametrize("what", ["cut", "noise", "empty", "gone"])
def test_a_broken_shard_is_passed_over(clips, folder, tmp_path, caplog, what):
    change = {
        "cut": lambda data: data[: len(data) // 2],
        "noise": lambda data: bytes(255 - byte for byte in data),
        "empty": lambda data: b"",
        "gone": lambda data: data,
    }[what]
    broken = broken_copy(folder, tmp_path / "broken", change)
    shards = Shards(broken)
    if what == "gone":
        (broken / "shard-000003.tar").unlink()
    lost = held(folder / "shard-000003.tar")
    left = keys(shards.stream(0))
    assert set(left) >= {clip.key for clip in clips} - set(lost)
    assert len(left) == len(set(left))
    assert len(set(lost) & set(left)) < len(lost)
    if what == "cut":
        assert set(lost) & set(left)
    assert "shard-000003.tar" in caplog.text
    assert "skipped" in caplog.text
    assert keys(shards.stream(0, 9)) == left[9:]


def test_a_changed_clip_is_passed_over(clips, folder, tmp_path, caplog):
    with tarfile.open(folder / "shard-000003.tar") as tar:
        sound = next(member for member in tar if not member.name.endswith("json"))
    lost = held(folder / "shard-000003.tar")[0]

    def flip(data):
        at = sound.offset_data + sound.size // 2
        return data[:at] + bytes([255 - data[at]]) + data[at + 1 :]

    shards = Shards(broken_copy(folder, tmp_path / "broken", flip))
    left = keys(shards.stream(0))
    assert sorted([*left, lost]) == sorted(clip.key for clip in clips)
    assert f"{sound.name.partition('.')[0]} skipped: its checksum is wrong" in caplog.text
    assert keys(shards.stream(0, 9)) == left[9:]


def test_foreign_shards_are_read(clips, tmp_path, caplog):
    """No index, no check sums, perhaps no json, and things that are no clips."""
    parts = {
        "a/x.flac": clips[1].path.read_bytes(),
        "b.wav": clips[0].path.read_bytes(),
        "b.json": b'{"text": "hello", "speaker": 7}',
        "c.wav": b"no sound",
        "d.txt": b"alone",
        "e.wav": clips[4].path.read_bytes(),
        "e.json": b'["a list"]',
    }
    with tarfile.open(tmp_path / "theirs.tar", "w") as tar:
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, BytesIO(data))
    found = {clip.key: clip for clip, _ in Shards(tmp_path, buffer=1).stream(0)}
    assert list(found) == ["a/x", "b"]
    assert (found["b"].text, found["b"].speaker) == ("hello", "7")
    assert np.isclose(found["b"].seconds, clips[0].seconds)
    assert [name in caplog.text for name in ("c.wav", "/d skipped", "/e skipped")] == [True] * 3


def test_places_are_named_as_webdataset_does(clips, folder, caplog):
    every = sorted(clip.key for clip in clips)
    assert sorted(keys(Shards(f"{folder}/shard-{{000000..000007}}.tar").stream(0))) == every
    assert sorted(keys(Shards(sorted(folder.glob("*.tar"))).stream(0))) == every
    piped = Shards(["pipe:exit 3", *(f"pipe:cat {path}" for path in folder.glob("*.tar"))])
    assert sorted(keys(piped.stream(0))) == every
    assert "pipe:exit 3 skipped" in caplog.text
    stopped = piped.stream(0)
    next(stopped)
    stopped.close()
    assert len(list(islice(Shards([f"pipe:cat {folder}/shard-000000.tar"] * 2, buffer=1).stream(0), 3))) == 3


def test_unreadable_clips_are_left_out_and_named(clips, tmp_path, caplog):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "clip.sound").write_bytes(clips[0].path.read_bytes())
    names = ["broken.wav", "clip.sound", "gone.wav"]
    bad = [Clip(name, tmp_path / name, 1.0) for name in names]
    shards = write_shards([*clips[:3], *bad], tmp_path / "shards")
    assert sorted(keys(shards.stream(0))) == sorted(clip.key for clip in clips[:3])
    assert shards.index["clips"] == 3
    assert "3 clips left out" in caplog.text
    assert all(f"{name} (" in caplog.text for name in names)
    with pytest.raises(ValueError, match="no clip can be read; the first: "):
        write_shards(bad, tmp_path / "none")
    with pytest.raises(ValueError, match="as none is listed"):
        write_shards([], tmp_path / "none")
    assert not list(tmp_path.glob("*none*"))


def test_shards_are_whole_or_not_there(clips, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("pretrain.data.shards.json.dumps", full)
    with pytest.raises(OSError, match="no space"):
        write_shards(clips[:3], tmp_path / "shards")
    assert not (tmp_path / "shards").exists()
    monkeypatch.undo()
    write_shards(clips[:3], tmp_path / "shards")
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]
    with pytest.raises(ValueError, match="already exists"):
        write_shards(clips[:3], tmp_path / "shards")


def test_wrong_use_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="there are no shards at"):
        Shards(tmp_path)
    with pytest.raises(ValueError, match="rank must be below world_size"):
        Shards(folder, rank=2, world_size=2)
    with pytest.raises(ValueError, match="buffer at least 1"):
        Shards(folder, buffer=0)
    with pytest.raises(ValueError, match="must be above 0"):
        write_shards([], tmp_path / "x", megabytes=0)
