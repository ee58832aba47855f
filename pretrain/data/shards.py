"""Shards: clips in tar files, for corpora that are read sequentially, from slow disks or over the network.

Shards have the webdataset format: an audio file's own bytes (the source's, if the clip has one), and its metadata as
json. Every reader takes whole shards, in an order drawn anew each epoch, and shuffles clips in a buffer:

    shards, shuffled --> this reader's --> clips --> shuffle buffer --> skip --> decode
"""

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from io import BytesIO
from itertools import groupby, islice
from math import ceil
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from pretrain.data.manifest import AUDIO_SUFFIXES, READ_ERRORS, Clip, Samples, decode, fit_length, log_skipped
from pretrain.data.places import Place, Source, find_shards, open_shard
from pretrain.encoder.framing import SAMPLE_RATE
from pretrain.files import read_json

log = logging.getLogger(__name__)

METADATA = ("speaker", "text", "language")


class StoredClip(NamedTuple):
    """A clip, its file's bytes, and the length to cut or pad it to in samples, if any."""

    clip: Clip
    data: bytes
    length: int | None = None


class Shards(IterableDataset[tuple[Clip, Samples]]):
    """A stream of clips and their waveforms (samples,) at 16 kHz, from tar files.

    All readers together (ranks, and the workers of each) read every clip once an epoch. With fewer shards than readers,
    all read all shards, and each takes every n-th clip; otherwise some read one shard more than others. Set `epoch` and
    `skip` before iterating; a DataLoader's workers use their values at that time.

    Args:
        source: a folder of `write_shards` (or of any tars), a URL with braces ("https://.../shard-{000000..000099}.tar"),
            or a list of paths and URLs. URLs are https, or http on this machine. A list, which only a program can give,
            may hold webdataset's `pipe:` too, whose shell commands are run; from anywhere else that is refused.
        seed: of the shuffling.
        rank: of this process.
        world_size: number of processes that share the clips.
        buffer: size of the shuffle buffer, in undecoded clips; 1 keeps their order.

    Attributes:
        epoch: the next one, which decides the order.
        skip: clips of each worker to skip without decoding, since a resumed training has seen them.
        index: that `write_shards` wrote; empty for other shards.
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        buffer: int = 1000,
    ) -> None:
        if not 0 <= rank < world_size or buffer < 1:
            raise ValueError(
                f"rank {rank} of {world_size}, buffer {buffer}; rank must be below world_size, buffer at least 1."
            )
        self.urls, self.index = find_shards(source), _read_index(source)
        self.seed, self.rank, self.world_size, self.buffer = seed, rank, world_size, buffer
        self.epoch = self.skip = 0

    def __iter__(self) -> Iterator[tuple[Clip, Samples]]:
        info = get_worker_info()
        return self.stream(self.epoch, self.skip, *((info.id, info.num_workers) if info else (0, 1)))

    def stream(self, epoch: int, skip: int = 0, worker: int = 0, workers: int = 1) -> Iterator[tuple[Clip, Samples]]:
        """Yield one worker's clips of an epoch, in an order that depends on seed, epoch and worker.

        Broken shards and clips are skipped and logged. They do not count for `skip`, unless only decoding reveals them,
        which is never the case for shards by `write_shards`.
        """
        reader, readers = self.rank * workers + worker, self.world_size * workers
        urls = [self.urls[shard] for shard in np.random.default_rng((self.seed, epoch)).permutation(len(self.urls))]
        enough = len(urls) >= readers
        clips = _clips(urls[reader::readers]) if enough else islice(_clips(urls), reader, None, readers)
        generator = np.random.default_rng((self.seed, epoch, 1 + reader))
        for clip, data, length in islice(_shuffled(clips, self.buffer, generator), skip, None):
            try:
                samples = _decoded(data)
            except READ_ERRORS as error:
                _log_skip(error, str(clip.path))
            else:
                samples = samples if length is None else fit_length(samples, length)
                yield clip._replace(seconds=len(samples) / SAMPLE_RATE), samples


def write_shards(
    clips: Sequence[Clip], folder: str | Path, *, megabytes: float = 256, seed: int = 0, workers: int = 2
) -> Shards:
    """Copy clips into shards of about equal size, in random order, with an index.json.

    Every file is decoded once as a check; those that fail are skipped and logged.

    Args:
        clips: to copy; their input files are stored unchanged.
        folder: of the shards; it must not exist, and appears only once complete.
        megabytes: approximate size of a shard; there should be several shards per reader.
        seed: of the order.
        workers: number of threads that read and decode.
    """
    folder = Path(folder)
    if megabytes <= 0:
        raise ValueError(f"megabytes is {megabytes}; it must be above 0.")
    if folder.exists():
        raise ValueError(f"{folder} already exists; remove it, or choose another folder.")
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shards: list[dict[str, Any]] = []
    checksums: list[str] = []
    left_out: list[str] = []
    with ThreadPoolExecutor(workers) as pool:
        for group in _grouped(clips, megabytes * 1e6, np.random.default_rng(seed)):
            name = f"shard-{len(shards):06d}.tar"
            lengths = list(
                _write_shard(partial / name, zip(group, pool.map(_load, group), strict=True), checksums, left_out)
            )
            if lengths:
                shards.append({"name": name, "clips": len(lengths), "seconds": sum(lengths)})
    log_skipped(left_out)
    if not shards:
        shutil.rmtree(partial)
        raise ValueError(f"no clip can be read{'; the first: ' + left_out[0] if left_out else ', as none is listed'}.")
    seconds = sum(shard["seconds"] for shard in shards)
    fingerprint = blake2b("".join(sorted(checksums)).encode(), digest_size=8).hexdigest()
    index = {"shards": shards, "clips": len(checksums), "seconds": seconds, "fingerprint": fingerprint}
    (partial / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    partial.rename(folder)
    return Shards(folder)


def _grouped(clips: Sequence[Clip], size: float, rng: np.random.Generator) -> Iterator[list[Clip]]:
    """Divide shuffled clips into groups of about equal size, about `size` bytes at most."""
    order = [clips[at] for at in rng.permutation(len(clips))]
    sizes = np.array([clip.input_path.stat().st_size if clip.input_path.is_file() else 0 for clip in order])
    total = max(int(sizes.sum()), 1)
    group = (sizes.cumsum() - sizes) * ceil(total / size) // total  # by the offset of a clip's first byte
    for _, members in groupby(zip(group, order, strict=True), key=itemgetter(0)):
        yield [clip for _, clip in members]


def _write_shard(
    tar: Path, loaded: Iterable[tuple[Clip, "_Loaded"]], checksums: list[str], left_out: list[str]
) -> Iterator[float]:
    """Write a shard and yield the duration of each of its clips; append to `checksums`, or to `left_out`."""
    from webdataset.writer import TarWriter

    with tar.open("wb") as file, TarWriter(file, mtime=0, user="", group="") as writer:
        for clip, (data, seconds, problem) in loaded:
            if problem:
                left_out.append(f"{clip.key} ({problem})")
                continue
            checksum, name = crc32(data), f"{len(checksums):09d}"
            metadata = {"key": clip.key, "crc32": checksum, **{name: getattr(clip, name) for name in METADATA}}
            metadata |= {"cut_to": round(seconds * SAMPLE_RATE)} if clip.source else {}
            writer.write({"__key__": name, "json": json.dumps(metadata | {"seconds": seconds}).encode()})
            writer.write(
                {"__key__": name, clip.input_path.suffix.lower()[1:]: data}
            )  # audio last, so that a truncated clip has none
            checksums.append(f"{clip.key} {checksum}\n")
            yield seconds


class _Loaded(NamedTuple):
    data: bytes
    seconds: float
    problem: str


def _load(clip: Clip) -> _Loaded:
    """Read the bytes of a clip's input file, if it can be decoded; the duration is the clip's own."""
    if clip.input_path.suffix.lower() not in AUDIO_SUFFIXES:
        return _Loaded(b"", 0.0, f"not named {', '.join(sorted(AUDIO_SUFFIXES))}")
    try:
        data = clip.input_path.read_bytes()
        samples = len(_decoded(data))
        samples = samples if clip.source is None else len(decode(clip.path))
        return _Loaded(data, samples / SAMPLE_RATE, "")
    except READ_ERRORS as error:
        return _Loaded(b"", 0.0, _reason(error))


def _decoded(data: bytes) -> Samples:
    return decode(BytesIO(data))


def _read_index(source: Source) -> dict[str, Any]:
    """Return the index of a folder of shards; empty if there is none."""
    if not isinstance(source, str | Path) or not (Path(source) / "index.json").is_file():
        return {}
    return read_json(Path(source) / "index.json")


def _clips(urls: Iterable[Place]) -> Iterator[StoredClip]:
    """Read shards in order, skipping what is broken."""
    for url in urls:
        for sample in _samples(url):
            try:
                stored = _parse(sample)
            except (ValueError, TypeError, AttributeError) as error:
                _log_skip(error, f"{url}/{sample['__key__']}")
            else:
                yield stored


def _samples(url: Place) -> Iterator[dict[str, Any]]:
    """Read a shard's members, grouped by key."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    def handler(error: Exception) -> bool:
        error.args = error.args[:1]  # webdataset appends its own state
        _log_skip(error, str(url))
        return True

    try:
        stream = open_shard(url)
    except (OSError, ValueError) as error:
        handler(error)
        return
    try:
        yield from group_by_keys(tar_file_expander([{"url": url, "stream": stream}], handler=handler), handler=handler)
    finally:
        try:
            stream.close()
        except OSError as error:  # a command that failed, or was not read to its end
            log.debug("%s: %s", url, error)


def _parse(sample: dict[str, Any]) -> StoredClip:
    """Parse a clip's members; raise ValueError if they are broken."""
    member = next((name for name in sample if f".{name.rpartition('.')[2]}" in AUDIO_SUFFIXES), None)
    if member is None:
        raise ValueError("there is no audio")
    data, metadata = sample[member], json.loads(sample.get("json", b"{}"))
    if metadata.get("crc32", crc32(data)) != crc32(data):
        raise ValueError("its checksum is wrong")
    path = Path(sample["__url__"]) / f"{sample['__key__']}.{member}"
    known = {name: str(metadata.get(name) or "") for name in METADATA}
    length = None if metadata.get("cut_to") is None else int(metadata["cut_to"])
    return StoredClip(
        Clip(str(metadata.get("key") or sample["__key__"]), path, 0.0, source=None, **known), data, length
    )


def _shuffled(clips: Iterable[StoredClip], size: int, rng: np.random.Generator) -> Iterator[StoredClip]:
    """Shuffle clips in a buffer of `size`."""
    buffer: list[StoredClip] = []
    for clip in clips:
        if len(buffer) < size:
            buffer.append(clip)
            continue
        at = rng.integers(size)
        yield buffer[at]
        buffer[at] = clip
    yield from (buffer[at] for at in rng.permutation(len(buffer)))


def _log_skip(error: Exception, what: str) -> None:
    log.warning("%s skipped: %s", what, _reason(error))


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
