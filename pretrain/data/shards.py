"""Clips in tar files: for corpora that are read from end to end, from slow disks or from afar.

Shards are in the webdataset form: a sound file's own bytes (of a clip with a source, the source's), and a json of what
is known of the clip. Every reader takes whole shards, in an order drawn anew each epoch, and shuffles what comes
through a buffer:

    shards, in the epoch's order --> mine --> clips --> buffer --> skip --> decode
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

from pretrain.data.manifest import BROKEN, SAMPLE_RATE, SOUNDS, Clip, Samples, decode, fitted, name_left_out

log = logging.getLogger(__name__)

FACTS = ("speaker", "text", "language")


class Stored(NamedTuple):
    """A clip, its file's bytes, and how many samples are to come of it; None if as many as there are."""

    clip: Clip
    data: bytes
    length: int | None = None


class Shards(IterableDataset[tuple[Clip, Samples]]):
    """A stream of clips and their samples (samples,) at 16 kHz, out of tar files.

    All readers together (ranks, and the workers of each) read every clip once an epoch. Where there are fewer shards
    than readers, all read all of them, and each takes every n-th clip; otherwise some read a shard more than others.
    Set `epoch` and `skip` before iterating; a DataLoader's workers take them as they are when it is iterated.

    Args:
        source: a folder of `write_shards` (or of any tars), a URL with braces ("http://.../shard-{000000..000099}.tar"),
            or a list of paths and URLs; what webdataset opens, `pipe:` with its shell commands included.
        seed: of the orders.
        rank: which of `ranks` processes this is.
        ranks: how many processes share the clips.
        buffer: of so many clips, still encoded, any may be next; 1 keeps them in their order.

    Attributes:
        epoch: which order is next.
        skip: how many clips of each worker are passed over first, without decoding them: those already seen.
        index: what `write_shards` wrote of the folder; empty if the shards come from elsewhere.
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        *,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        buffer: int = 1000,
    ) -> None:
        if not 0 <= rank < ranks or buffer < 1:
            raise ValueError(f"rank {rank} of {ranks}, buffer {buffer}; give 0 <= rank < ranks, a buffer of 1 or more.")
        self.urls, self.index = _listed(source)
        self.seed, self.rank, self.ranks, self.buffer = seed, rank, ranks, buffer
        self.epoch = self.skip = 0

    def __iter__(self) -> Iterator[tuple[Clip, Samples]]:
        info = get_worker_info()
        return self.stream(self.epoch, self.skip, *((info.id, info.num_workers) if info else (0, 1)))

    def stream(self, epoch: int, skip: int = 0, worker: int = 0, workers: int = 1) -> Iterator[tuple[Clip, Samples]]:
        """Give one worker's clips of an epoch, in an order that follows from the seed, the epoch and who reads.

        Shards and clips that are broken are passed over and named in the log. They do not count for `skip`, unless it
        takes decoding to notice, which it does not for what `write_shards` wrote.
        """
        reader, readers = self.rank * workers + worker, self.ranks * workers
        urls = [self.urls[shard] for shard in np.random.default_rng((self.seed, epoch)).permutation(len(self.urls))]
        enough = len(urls) >= readers
        clips = _clips(urls[reader::readers]) if enough else islice(_clips(urls), reader, None, readers)
        generator = np.random.default_rng((self.seed, epoch, 1 + reader))
        for clip, data, length in islice(_shuffled(clips, self.buffer, generator), skip, None):
            try:
                samples = _decoded(data)
            except BROKEN as error:
                _passed_over(error, str(clip.path))
            else:
                samples = samples if length is None else fitted(samples, length)
                yield clip._replace(seconds=len(samples) / SAMPLE_RATE), samples


def write_shards(
    clips: Sequence[Clip], folder: str | Path, *, megabytes: float = 256, seed: int = 0, workers: int = 2
) -> Shards:
    """Copy clips into shards of about the same size, in random order, with an index.json of what they hold.

    Every file is decoded once, to see that it can be; those that cannot are left out, and named in the log.

    Args:
        clips: what to copy, each as it is heard; the files' bytes stay as they are.
        folder: where to; it must not be there yet, and is there only once it is whole.
        megabytes: of a shard, about; have several shards for every reader.
        seed: of the order.
        workers: how many threads read and decode.
    """
    folder = Path(folder)
    if megabytes <= 0:
        raise ValueError(f"megabytes is {megabytes}; give more than 0.")
    if folder.exists():
        raise ValueError(f"{folder} is there already; remove it, or name another folder.")
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shards: list[dict[str, Any]] = []
    marks: list[str] = []
    left_out: list[str] = []
    with ThreadPoolExecutor(workers) as pool:
        for group in _dealt(clips, megabytes * 1e6, np.random.default_rng(seed)):
            name = f"shard-{len(shards):06d}.tar"
            lengths = list(_written(partial / name, zip(group, pool.map(_taken, group), strict=True), marks, left_out))
            if lengths:
                shards.append({"name": name, "clips": len(lengths), "seconds": sum(lengths)})
    name_left_out(left_out)
    if not shards:
        shutil.rmtree(partial)
        raise ValueError(f"no clip can be read{'; the first: ' + left_out[0] if left_out else ', as none is listed'}.")
    seconds = sum(shard["seconds"] for shard in shards)
    mark = blake2b("".join(sorted(marks)).encode(), digest_size=8).hexdigest()
    index = {"shards": shards, "clips": len(marks), "seconds": seconds, "fingerprint": mark}
    (partial / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    partial.rename(folder)
    return Shards(folder)


def _dealt(clips: Sequence[Clip], size: float, rng: np.random.Generator) -> Iterator[list[Clip]]:
    """Divide clips, in random order, into groups of about the same number of bytes, about `size` at most."""
    order = [clips[at] for at in rng.permutation(len(clips))]
    sizes = np.array([clip.heard.stat().st_size if clip.heard.is_file() else 0 for clip in order])
    total = max(int(sizes.sum()), 1)
    group = (sizes.cumsum() - sizes) * ceil(total / size) // total  # by where a clip's bytes would begin
    for _, some in groupby(zip(group, order, strict=True), key=itemgetter(0)):
        yield [clip for _, clip in some]


def _written(
    tar: Path, taken: Iterable[tuple[Clip, "_Taken"]], marks: list[str], left_out: list[str]
) -> Iterator[float]:
    """Write a shard, and give the seconds of each clip that is in it; add to the marks of all, or to those left out."""
    from webdataset.writer import TarWriter

    with tar.open("wb") as file, TarWriter(file, mtime=0, user="", group="") as writer:
        for clip, (data, seconds, problem) in taken:
            if problem:
                left_out.append(f"{clip.key} ({problem})")
                continue
            mark, name = crc32(data), f"{len(marks):09d}"
            facts = {"key": clip.key, "crc32": mark, **{fact: getattr(clip, fact) for fact in FACTS}}
            facts |= {"cut_to": round(seconds * SAMPLE_RATE)} if clip.source else {}
            writer.write({"__key__": name, "json": json.dumps(facts | {"seconds": seconds}).encode()})
            writer.write({"__key__": name, clip.heard.suffix.lower()[1:]: data})  # last: half a clip has no sound
            marks.append(f"{clip.key} {mark}\n")
            yield seconds


class _Taken(NamedTuple):
    data: bytes
    seconds: float
    problem: str


def _taken(clip: Clip) -> _Taken:
    """Read the bytes of what is heard of a clip, if it can be decoded; the seconds are the clip's own."""
    if clip.heard.suffix.lower() not in SOUNDS:
        return _Taken(b"", 0.0, f"not named {', '.join(sorted(SOUNDS))}")
    try:
        data = clip.heard.read_bytes()
        samples = len(_decoded(data))
        samples = samples if clip.source is None else len(decode(clip.path))
        return _Taken(data, samples / SAMPLE_RATE, "")
    except BROKEN as error:
        return _Taken(b"", 0.0, _reason(error))


def _decoded(data: bytes) -> Samples:
    return decode(BytesIO(data))


def _listed(source: str | Path | Sequence[str | Path]) -> tuple[list[str], dict[str, Any]]:
    """Give the shards' URLs and their index, if there is one."""
    from webdataset.shardlists import expand_urls

    if isinstance(source, str | Path) and Path(source).is_dir():
        folder = Path(source)
        index: dict[str, Any] = {}
        if (folder / "index.json").is_file():
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        urls = [str(path) for path in sorted(folder.glob("*.tar"))]
        return _some(urls, source), index
    several = [source] if isinstance(source, str | Path) else source
    return _some([url for some in several for url in expand_urls(str(some))], source), {}


def _some(urls: list[str], source: object) -> list[str]:
    if not urls:
        raise ValueError(f"there are no shards at {source}; give a folder of .tar files, or their URLs.")
    return urls


def _clips(urls: Iterable[str]) -> Iterator[Stored]:
    """Read shards one after the other; pass over what is broken."""
    for url in urls:
        for sample in _samples(url):
            try:
                stored = _stored(sample)
            except (ValueError, TypeError, AttributeError) as error:
                _passed_over(error, f"{url}/{sample['__key__']}")
            else:
                yield stored


def _samples(url: str) -> Iterator[dict[str, Any]]:
    """Read a shard's members, those of the same name together."""
    from webdataset.gopen import gopen
    from webdataset.tariterators import group_by_keys, tar_file_expander

    def handler(error: Exception) -> bool:
        error.args = error.args[:1]  # webdataset adds what it had in hand
        _passed_over(error, url)
        return True

    try:
        stream = gopen(url)
    except (OSError, ValueError) as error:
        handler(error)
        return
    try:
        yield from group_by_keys(tar_file_expander([{"url": url, "stream": stream}], handler=handler), handler=handler)
    finally:
        try:
            stream.close()
        except OSError as error:  # a command that failed, or was not heard to its end
            log.debug("%s: %s", url, error)


def _stored(sample: dict[str, Any]) -> Stored:
    """Understand the members of one clip; a ValueError says what is wrong with them."""
    member = next((name for name in sample if f".{name.rpartition('.')[2]}" in SOUNDS), None)
    if member is None:
        raise ValueError("there is no sound")
    data, facts = sample[member], json.loads(sample.get("json", b"{}"))
    if facts.get("crc32", crc32(data)) != crc32(data):
        raise ValueError("it is not what was written")
    path = Path(sample["__url__"]) / f"{sample['__key__']}.{member}"
    known = {name: str(facts.get(name) or "") for name in FACTS}
    length = None if facts.get("cut_to") is None else int(facts["cut_to"])
    return Stored(Clip(str(facts.get("key") or sample["__key__"]), path, 0.0, source=None, **known), data, length)


def _shuffled(clips: Iterable[Stored], size: int, rng: np.random.Generator) -> Iterator[Stored]:
    """Hold `size` clips back, and give any of them for each that comes."""
    held: list[Stored] = []
    for clip in clips:
        if len(held) < size:
            held.append(clip)
            continue
        at = rng.integers(size)
        yield held[at]
        held[at] = clip
    yield from (held[at] for at in rng.permutation(len(held)))


def _passed_over(error: Exception, what: str) -> None:
    log.warning("%s passed over: %s", what, _reason(error))


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
