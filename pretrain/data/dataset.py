"""Datasets of batches: clips of similar length, in a reproducible random order.

All randomness depends on (seed, epoch, clip) only, so a step's batch is the same when resumed and in any process, and N
processes with 1/N of each batch see the same data as one.
"""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import NamedTuple, Protocol

import numpy as np
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from pretrain.data.batch import Batch, Collator
from pretrain.data.manifest import Clip, Samples, parallel_clips
from pretrain.data.pack import ClipAudio
from pretrain.encoder.framing import SAMPLE_RATE

BUCKET_BATCHES = 64  # clips are sorted by length within so many batches
MAX_BUFFER_SECONDS = 2000  # of audio that a worker of a stream buffers for that: 128 MB
MAX_EMPTY_EPOCHS = 3


class BatchIndex(NamedTuple):
    """The clips of a batch, and the epoch that seeds its augmentation."""

    epoch: int
    clips: list[int]


class ClipDataset(Dataset[Batch]):
    """Batches of clips with random access.

    Args:
        audio: the clips.
        collate: the collator.
        seed: of crops, masks, mixtures and parallel clips.
    """

    def __init__(self, audio: ClipAudio, collate: Collator, seed: int) -> None:
        self.audio, self.collate, self.seed = audio, collate, seed
        self._parallel = parallel_clips(audio.clips) if collate.two_views else []

    def __getitem__(self, batch: BatchIndex) -> Batch:
        """Read and collate a batch."""
        generators = [np.random.default_rng((self.seed, batch.epoch, index)) for index in batch.clips]
        clips = [self._read(index) for index in batch.clips]
        if not self.collate.two_views:
            return self.collate(clips, generators)
        drawn = [self._draw_parallel(index, rng) for index, rng in zip(batch.clips, generators, strict=True)]
        parallel = [
            clip if other == index else self._read(other)
            for clip, index, other in zip(clips, batch.clips, drawn, strict=True)
        ]
        return self.collate(clips, generators, parallel)

    def _read(self, index: int) -> tuple[Clip, Samples]:
        return self.audio.clips[index], self.audio.read(index)

    def _draw_parallel(self, index: int, rng: np.random.Generator) -> int:
        """Return a random clip parallel to a clip, other than itself if there is one."""
        others = [other for other in self._parallel[index] if other != index]
        return int(rng.choice(others)) if others else index


class ClipStream(IterableDataset[Batch]):
    """Endless batches of a stream of clips, as from `pretrain.data.shards.Shards`.

    Args:
        shards: streams each worker's clips of an epoch.
        collate: the collator.
        seconds: of audio in a batch, padding included.
        shortest: minimum duration of a clip; shorter clips are skipped, and those without labels.
        seed: of the order within `BUCKET_BATCHES` batches, and of crops, masks and mixtures.
        first: the epoch to start with; each has another order.
    """

    def __init__(
        self, shards: "ShardReader", collate: Collator, *, seconds: float, shortest: float, seed: int, first: int = 0
    ) -> None:
        self.shards, self.collate, self.seconds, self.shortest = shards, collate, seconds, shortest
        self.seed, self.first = seed, first

    def __iter__(self) -> Iterator[Batch]:
        """Yield this worker's batches."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        empty = 0
        for epoch in count(self.first):
            empty += 1
            for number, part in enumerate(self._buckets(self.shards.stream(epoch, 0, worker, workers))):
                empty = 0
                rng = np.random.default_rng((self.seed, epoch, self.shards.rank, worker, number))
                longest = self.collate.longest / SAMPLE_RATE
                for batch in length_bucketed_batches([clip.seconds for clip, _ in part], self.seconds, longest, rng):
                    yield self.collate([part[index] for index in batch], rng.spawn(len(batch)))
            if empty > MAX_EMPTY_EPOCHS:
                raise ValueError(
                    f"in {empty} epochs worker {worker} of process {self.shards.rank} has found no clip of "
                    f"{self.shortest} s with labels; provide more shards than workers, and labels of their clips."
                )

    def _buckets(self, clips: Iterator[tuple[Clip, Samples]]) -> Iterator[list[tuple[Clip, Samples]]]:
        """Group clips into buckets of `BUCKET_BATCHES` batches, as far as memory allows."""
        enough = max(4 * self.seconds, min(BUCKET_BATCHES * self.seconds, MAX_BUFFER_SECONDS))
        part: list[tuple[Clip, Samples]] = []
        held = 0.0
        for clip, wav in clips:
            if clip.seconds < self.shortest or any(clip.key not in of for of in self.collate.labels):
                continue
            part.append((clip, wav))
            held += clip.seconds
            if held >= enough:
                yield part
                part, held = [], 0.0
        if part:
            yield part


class ShardReader(Protocol):
    """A stream of clips.

    Attributes:
        rank: of the process that reads it.
    """

    rank: int

    def stream(self, epoch: int, skip: int, worker: int, workers: int) -> Iterator[tuple[Clip, Samples]]:
        """Yield one worker's clips of an epoch, after the first `skip`."""


def length_bucketed_batches(
    seconds: Sequence[float], per_batch: float, longest: float, generator: np.random.Generator | None, least: int = 1
) -> list[list[int]]:
    """Divide clips into batches of similar length.

    Args:
        seconds: duration of each clip.
        per_batch: seconds in a batch, padding included.
        longest: maximum duration of a crop, in seconds.
        generator: shuffles clips and batches; sorted from short to long if None.
        least: minimum number of clips in a batch, even if longer; the last ones of a bucket may be repeated for it.
    """
    lengths = np.minimum(np.asarray(seconds), longest)
    order = np.arange(len(lengths)) if generator is None else generator.permutation(len(lengths))
    together = max(round(BUCKET_BATCHES * per_batch / max(float(lengths.mean()), 1e-9)), 1)
    batches: list[list[int]] = []
    for start in range(0, len(order), together if generator is not None else len(order)):
        part = order[start : start + together] if generator is not None else order
        by_length = part[np.argsort(lengths[part], kind="stable")].tolist()
        batch: list[int] = []
        for clip in by_length:
            if len(batch) >= least and (len(batch) + 1) * lengths[clip] > per_batch:
                batches.append(batch)
                batch = []
            batch.append(clip)
        batches.append(batch if len(batch) >= least else by_length[-least:])
    if generator is not None:
        batches = [batches[i] for i in generator.permutation(len(batches))]
    return batches


def batch_indices(
    seconds: Sequence[float],
    per_batch: float,
    longest: float,
    seed: int,
    *,
    first: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[BatchIndex]:
    """Yield this rank's share of endless batches, from number `first` on."""
    epoch = 0
    while True:
        # two clips per rank, so that WavLM has something to mix
        least = 2 * world_size if world_size > 1 else 1
        batches = length_bucketed_batches(seconds, per_batch, longest, np.random.default_rng((seed, epoch)), least)
        if min(map(len, batches)) < world_size:
            raise ValueError(
                f"{len(seconds)} clips cannot be shared by {world_size} processes; use more clips, or fewer processes."
            )
        for batch in islice(batches, min(first, len(batches)), None):
            yield BatchIndex(epoch, batch[rank::world_size])
        first = max(first - len(batches), 0)
        epoch += 1
