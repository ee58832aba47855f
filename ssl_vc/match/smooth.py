"""Smooth: of the frames near each of the source's, those that also go on from one to the next.

Unit selection's two costs (Hunt and Black, 1996, "Unit selection in a concatenative speech synthesis system using a
large speech database"): how far a frame is from the source's, and how badly it follows the one chosen before. Every
candidate is rated by the cheapest whole path through it, and the k best are averaged; the best alone is Viterbi's path.

A clip is read in windows, so memory and delay are bounded:

    window 1   |===== core 1 =====|-context-|
    window 2            |-context-|===== core 2 =====|-context-|
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_vc.features.time_stretch import Regroup
from ssl_vc.match.knn import average
from ssl_vc.match.protocol import Match, Pool
from ssl_vc.match.search import Neighbours

CORE = 500  # frames
CONTEXT = 50  # frames on each side
MOST = 64  # candidates: every pair of them is compared
AT_A_TIME = 64  # frames of which the candidates are compared


class Smooth(NamedTuple):
    """The mean of the k nearest that follow one another best.

    Attributes:
        k: how many; all of a pool that has fewer.
        candidates: how many nearest frames are chosen from.
        weight: what a bad concatenation costs, against a distance to the source; 0 is kNN.
    """

    k: int = 4
    candidates: int = 16
    weight: float = 0.3

    def __call__(self, pieces: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        """Give the target's frames for a clip's; see `Matcher`."""
        if not 1 <= self.k <= MOST:
            raise ValueError(f"k is {self.k}; give at least 1, and at most {MOST}, or choose knn.")
        if self.weight < 0:
            raise ValueError(f"weight is {self.weight}; give 0 (kNN) or more.")
        return self._convert(pieces, pool)

    @torch.no_grad()
    def _convert(self, pieces: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        many = max(self.k, self.candidates)
        frames = Regroup(chain(pieces, [pool.frames[:0]]))
        core = pool.nearest(frames.take(CORE), many)
        before = _part(core, slice(0))
        while len(core.index):
            # core by core, so that rounding too is the same however the clip was cut
            after = pool.nearest(frames.take(CORE), many)
            window = _part(before, slice(-CONTEXT, None)), core, _part(after, slice(CONTEXT))
            distance, index = (torch.cat(part) for part in zip(*window, strict=True))
            cost = through(distance.cpu(), self.weight * concatenation(index, pool).cpu())  # a loop of tiny steps
            start = len(window[0].index)
            best = cost[start : start + len(core.index)].topk(min(self.k, cost.shape[1]), largest=False).indices
            chosen = core.index.gather(1, best.to(core.index.device))
            yield Match(average(pool.synthesis, chosen), core.distance[:, 0])
            before, core = core, after


def _part(found: Neighbours, which: slice) -> Neighbours:
    return Neighbours(found.distance[which], found.index[which])


def concatenation(index: Tensor, pool: Pool) -> Tensor:
    """Rate how badly each candidate follows each one before it.

    Args:
        index: the candidates in the pool (frames, candidates).
        pool: what they are taken from.

    Returns:
        (frames - 1, candidates before, candidates), 1 - cosine between what follows the one before in its clip (itself,
        at the end of that) and the other; 0 where the two are one frame.
    """
    follower = index + pool.goes_on[index].long()
    costs = [index.new_zeros(0, index.shape[1], index.shape[1], dtype=torch.float32)]
    for before, after in zip(follower[:-1].split(AT_A_TIME), index[1:].split(AT_A_TIME), strict=True):
        left, right = (normalize(pool.frames[each].float(), dim=-1) for each in (before, after))
        cost = (1 - left @ right.mT).clamp(min=0)
        costs.append(cost.masked_fill(before[:, :, None] == after[:, None], 0))
    return torch.cat(costs)


def through(target: Tensor, concatenation: Tensor) -> Tensor:
    """Give the cost of the cheapest whole path through each candidate (frames, candidates).

    Args:
        target: what each candidate costs (frames, candidates).
        concatenation: what each step costs (frames - 1, candidates before, candidates).
    """
    # a path from the end is one from the start of the reversed clip; float64, since a path is a sum over the window
    both = torch.stack([target, target.flip(0)], 1).double()
    steps = torch.stack([concatenation, concatenation.flip(0).mT], 1).double()
    for frame in range(1, len(both)):
        both[frame] += (both[frame - 1][:, :, None] + steps[frame - 1]).amin(1)
    return both[:, 0] + both[:, 1].flip(0) - target
