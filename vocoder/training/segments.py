"""Random segments of a pack as training examples: segment n follows from its number."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

import numpy as np
from torch.utils.data import Dataset

from vocoder.training.data import Pack, Segment


class SegmentDataset(Dataset[Segment]):
    """Random segments of a pack; segment n depends on the seed and n only.

    Args:
        pack: the clips; those shorter than a segment are not used.
        frames: in a segment.
        seed: of the random choice, uniform over all possible starts.
    """

    def __init__(self, pack: Pack, frames: int, seed: int) -> None:
        self.pack, self.frames, self.seed = pack, frames, seed
        self._choices = [0, *accumulate(max(length - frames + 1, 0) for length in pack.lengths)]
        if not self._choices[-1]:
            raise ValueError(f"no clip has the {frames} frames of a segment; use shorter segments or longer clips.")

    def __getitem__(self, index: int) -> Segment:
        """Returns segment `index`, any number from 0 on."""
        choice = int(np.random.default_rng((self.seed, index)).integers(self._choices[-1]))
        clip = bisect_right(self._choices, choice) - 1
        return self.pack.read(clip, choice - self._choices[clip], self.frames)


def batch_indices(first: int, last: int, batch: int, rank: int = 0, ranks: int = 1) -> Iterator[list[int]]:
    """Yields this process' share of the segment indices of steps `first` to `last`, exclusive."""
    share = batch // ranks
    for step in range(first, last):
        start = step * batch + rank * share
        yield list(range(start, start + share))
