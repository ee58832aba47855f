"""What a step of a pretraining learns from: which clips make a batch, of like length, in an order that can be repeated.

Everything random follows from (seed, epoch, clip), so a step's batch is the same whenever and by whichever process it
is made, and N processes with 1/N of each batch learn from what one process would.
"""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import NamedTuple, Protocol

import numpy as np
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from pretrain.data.batch import Batch, Maker
from pretrain.data.manifest import SAMPLE_RATE, Clip, Samples
from pretrain.data.pack import Sounds

LIKE_LENGTH = 64  # so many batches' clips are sorted by length together
MOST_SECONDS = 2000  # of sound that a worker of a stream holds for that: 128 MB
PATIENCE = 3  # epochs without a clip


class Order(NamedTuple):
    """Which clips make a batch, and for the how manieth time."""

    epoch: int
    clips: list[int]


class Clips(Dataset[Batch]):
    """Batches of clips that are asked for by number.

    Args:
        sounds: the clips.
        make: makes batches of them.
        seed: of crops, masks and mixtures.
    """

    def __init__(self, sounds: Sounds, make: Maker, seed: int) -> None:
        self.sounds, self.make, self.seed = sounds, make, seed

    def __getitem__(self, order: Order) -> Batch:
        """Make one batch."""
        clips = [(self.sounds.clips[index], self.sounds.read(index)) for index in order.clips]
        return self.make(clips, [np.random.default_rng((self.seed, order.epoch, index)) for index in order.clips])


class Stream(IterableDataset[Batch]):
    """Batches without end of clips that come one after the other, as from `pretrain.data.shards.Shards`.

    Args:
        shards: gives an epoch's clips to worker m of n.
        make: makes batches of them.
        seconds: in a batch, padding counted.
        shortest: clips of fewer seconds are passed over, and those without labels.
        seed: of the order within `LIKE_LENGTH` batches, and of crops, masks and mixtures.
        first: the epoch to begin with: the order of each is another.
    """

    def __init__(
        self, shards: "Streams", make: Maker, *, seconds: float, shortest: float, seed: int, first: int = 0
    ) -> None:
        self.shards, self.make, self.seconds, self.shortest = shards, make, seconds, shortest
        self.seed, self.first = seed, first

    def __iter__(self) -> Iterator[Batch]:
        """Give this worker's batches."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        empty = 0
        for epoch in count(self.first):
            empty += 1
            for number, part in enumerate(self._parts(self.shards.stream(epoch, 0, worker, workers))):
                empty = 0
                rng = np.random.default_rng((self.seed, epoch, self.shards.rank, worker, number))
                longest = self.make.longest / SAMPLE_RATE
                for batch in epoch_batches([clip.seconds for clip, _ in part], self.seconds, longest, rng):
                    yield self.make([part[index] for index in batch], rng.spawn(len(batch)))
            if empty > PATIENCE:
                raise ValueError(
                    f"in {empty} epochs worker {worker} of process {self.shards.rank} has met no clip of "
                    f"{self.shortest} s with labels; have more shards than workers, and labels of their clips."
                )

    def _parts(self, clips: Iterator[tuple[Clip, Samples]]) -> Iterator[list[tuple[Clip, Samples]]]:
        """Gather clips until they are as long as `LIKE_LENGTH` batches, or fill the memory meant for them."""
        enough = max(4 * self.seconds, min(LIKE_LENGTH * self.seconds, MOST_SECONDS))
        part: list[tuple[Clip, Samples]] = []
        held = 0.0
        for clip, wav in clips:
            if clip.seconds < self.shortest or any(clip.key not in of for of in self.make.labels):
                continue
            part.append((clip, wav))
            held += clip.seconds
            if held >= enough:
                yield part
                part, held = [], 0.0
        if part:
            yield part


class Streams(Protocol):
    """Clips that come one after the other.

    Attributes:
        rank: which process they come to.
    """

    rank: int

    def stream(self, epoch: int, skip: int, worker: int, workers: int) -> Iterator[tuple[Clip, Samples]]:
        """Give one worker's clips of an epoch, but for the first `skip`."""


def epoch_batches(
    seconds: Sequence[float], per_batch: float, longest: float, generator: np.random.Generator | None, least: int = 1
) -> list[list[int]]:
    """Divide clips into batches of like length.

    Args:
        seconds: how long each clip is.
        per_batch: seconds in a batch, padding counted.
        longest: seconds of a crop: what is longer counts as this.
        generator: for another order every time; from short to long if None.
        least: a batch holds so many clips, even if they are longer; the last ones of a part may come twice for it.
    """
    lengths = np.minimum(np.asarray(seconds), longest)
    order = np.arange(len(lengths)) if generator is None else generator.permutation(len(lengths))
    together = max(round(LIKE_LENGTH * per_batch / max(float(lengths.mean()), 1e-9)), 1)
    made: list[list[int]] = []
    for start in range(0, len(order), together if generator is not None else len(order)):
        part = order[start : start + together] if generator is not None else order
        by_length = part[np.argsort(lengths[part], kind="stable")].tolist()
        batch: list[int] = []
        for clip in by_length:
            if len(batch) >= least and (len(batch) + 1) * lengths[clip] > per_batch:
                made.append(batch)
                batch = []
            batch.append(clip)
        made.append(batch if len(batch) >= least else by_length[-least:])
    if generator is not None:
        made = [made[i] for i in generator.permutation(len(made))]
    return made


def orders(
    seconds: Sequence[float],
    per_batch: float,
    longest: float,
    seed: int,
    *,
    first: int = 0,
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[Order]:
    """Ask for batches without end, from number `first` on: this process' rows of each."""
    epoch = 0
    while True:
        # two clips for every process, so that WavLM has something to mix
        least = 2 * ranks if ranks > 1 else 1
        batches = epoch_batches(seconds, per_batch, longest, np.random.default_rng((seed, epoch)), least)
        if min(map(len, batches)) < ranks:
            raise ValueError(f"{len(seconds)} clips cannot be shared by {ranks} processes; have more clips, or fewer.")
        for batch in islice(batches, min(first, len(batches)), None):
            yield Order(epoch, batch[rank::ranks])
        first = max(first - len(batches), 0)
        epoch += 1
