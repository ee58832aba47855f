"""Smooth: among the neighbours of each frame, those that join well with the frames before and after.

The two costs of unit selection (Hunt and Black, 1996, "Unit selection in a concatenative speech synthesis system using
a large speech database"): the target cost, distance to the source's frame, and the join cost of consecutive frames.
Every candidate is scored by the cheapest path through it, and the k best are averaged; k = 1 is the Viterbi path.

A clip is processed in windows, so memory and delay are bounded:

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
BLOCK = 64  # frames whose candidates are compared at a time


class Smooth(NamedTuple):
    """The mean of the k neighbours on the cheapest paths.

    Attributes:
        k: number of neighbours averaged; all frames of a smaller pool.
        candidates: number of neighbours considered.
        weight: of the join cost relative to the target cost; 0 is kNN.
    """

    k: int = 4
    candidates: int = 16
    weight: float = 0.3

    def __call__(self, chunks: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        """Yield the target's frames for a clip's; see `Matcher`."""
        if not 1 <= self.k <= MOST:
            raise ValueError(f"k is {self.k}; give at least 1, and at most {MOST}, or choose knn.")
        if self.weight < 0:
            raise ValueError(f"weight is {self.weight}; give 0 (kNN) or more.")
        return self._convert(chunks, pool)

    @torch.no_grad()
    def _convert(self, chunks: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        many = max(self.k, self.candidates)
        frames = Regroup(chain(chunks, [pool.frames[:0]]))
        core = pool.nearest(frames.take(CORE), many)
        before = _part(core, slice(0))
        while len(core.index):
            # core by core, so that even rounding does not depend on the chunks
            after = pool.nearest(frames.take(CORE), many)
            window = _part(before, slice(-CONTEXT, None)), core, _part(after, slice(CONTEXT))
            distance, index = (torch.cat(part) for part in zip(*window, strict=True))
            cost = path_costs(distance.cpu(), self.weight * join_costs(index, pool).cpu())  # a loop of tiny steps
            start = len(window[0].index)
            best = cost[start : start + len(core.index)].topk(min(self.k, cost.shape[1]), largest=False).indices
            chosen = core.index.gather(1, best.to(core.index.device))
            yield Match(average(pool.synthesis, chosen), core.distance[:, 0])
            before, core = core, after


def _part(found: Neighbours, which: slice) -> Neighbours:
    return Neighbours(found.distance[which], found.index[which])


def join_costs(index: Tensor, pool: Pool) -> Tensor:
    """Return the cost of joining each candidate to each candidate of the previous frame.

    Args:
        index: of the candidates in the pool (frames, candidates).
        pool: the target.

    Returns:
        (frames - 1, previous candidates, candidates): 1 - cosine between the successor of the previous candidate in its
        clip (itself, at the clip's end) and the candidate; 0 where these are the same frame.
    """
    successor = index + pool.has_successor[index].long()
    costs = [index.new_zeros(0, index.shape[1], index.shape[1], dtype=torch.float32)]
    for before, after in zip(successor[:-1].split(BLOCK), index[1:].split(BLOCK), strict=True):
        left, right = (normalize(pool.frames[each].float(), dim=-1) for each in (before, after))
        cost = (1 - left @ right.mT).clamp(min=0)
        costs.append(cost.masked_fill(before[:, :, None] == after[:, None], 0))
    return torch.cat(costs)


def path_costs(target: Tensor, join: Tensor) -> Tensor:
    """Return the cost of the cheapest path through each candidate (frames, candidates).

    Args:
        target: cost of each candidate (frames, candidates).
        join: cost of each step (frames - 1, previous candidates, candidates).
    """
    # a backward path is a forward path of the reversed clip; float64, since a path is a sum over the window
    both = torch.stack([target, target.flip(0)], 1).double()
    steps = torch.stack([join, join.flip(0).mT], 1).double()
    for frame in range(1, len(both)):
        both[frame] += (both[frame - 1][:, :, None] + steps[frame - 1]).amin(1)
    return both[:, 0] + both[:, 1].flip(0) - target
