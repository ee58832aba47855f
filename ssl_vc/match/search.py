"""Exact nearest neighbours by cosine in bounded memory.

Low-precision scores find candidates, float32 re-ranks them:

    pool (float32) --> int8 or bfloat16 --> scores of a block --> best of every group --> best CANDIDATES --> float32

The error of the coarse scores is measured on the candidates themselves. A query whose k-th best is less than SAFE times
that error above the rejected ones is searched again in float32, so the result is that of float32 alone.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.device import fast_bfloat16, fast_int8

CANDIDATES = 12  # beyond k
SAFE = 6.0  # standard deviations of the coarse scores' error
QUERIES = 512  # compared at a time
POOL = 2048  # frames of the pool compared at a time
RESCORED = 16  # queries re-ranked in float32 at a time
GROUP = 16  # columns reduced to their best one first


class Neighbours(NamedTuple):
    """The nearest neighbours of some queries, nearest first.

    Attributes:
        distance: 1 - cosine (queries, k).
        index: in the pool (queries, k).
    """

    distance: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index


class Search:
    """Search in the frames of a pool (frames, dim), on their device.

    Args:
        pool: the frames to search; not copied, except for a coarse copy of 1 or 2 bytes per value.
        coarse: dtype that finds the candidates: `int8`, `bfloat16`, `float32` (exact at once) or `auto`, the fastest.
    """

    def __init__(self, pool: Tensor, coarse: str = "auto") -> None:
        if pool.ndim != 2 or not pool.numel():
            raise ValueError(f"the pool has the shape {tuple(pool.shape)}; give (frames, dim) with at least one frame.")
        if coarse not in ("auto", "int8", "bfloat16", "float32"):
            raise ValueError(f"coarse is {coarse!r}; possible are auto, int8, bfloat16 and float32.")
        self.pool = pool
        self.coarse = _fastest(pool) if coarse == "auto" else coarse
        norm = torch.cat([block.float().norm(dim=1) for block in pool.split(POOL)])
        self.scale = 1 / norm.clamp(min=torch.finfo(torch.float32).tiny)
        if self.coarse == "float32":
            return
        # centring makes better use of the coarse range; it shifts all scores of a query alike, so the order stays
        self.mean = torch.stack([scale @ block.float() for block, scale in self._blocks()]).sum(0) / len(pool)
        small = [self._small((block * scale[:, None]).sub_(self.mean)) for block, scale in self._blocks()]
        self.steps = [step for step, _ in small]
        self.small = [numbers for _, numbers in small]

    def _blocks(self) -> Iterable[tuple[Tensor, Tensor]]:
        return zip(self.pool.split(POOL), self.scale.split(POOL), strict=True)

    def _small(self, numbers: Tensor, each_row: bool = False) -> tuple[Tensor, Tensor]:
        """Return (step, coarse values), whose product is about `numbers`, in place. One step, or one per row."""
        if self.coarse == "bfloat16":
            return numbers.new_ones(len(numbers), 1) if each_row else numbers.new_ones(()), numbers.bfloat16()
        low, high = numbers.aminmax(dim=1, keepdim=True)
        largest = torch.maximum(-low, high)
        step = (largest if each_row else largest.amax()).clamp(min=1e-30) / 127
        return step, numbers.div_(step).round_().to(torch.int8)

    def __call__(self, query: Tensor, k: int) -> Neighbours:
        """Return the k nearest neighbours of each query (queries, dim); all frames of a smaller pool."""
        if query.ndim != 2 or query.shape[1] != self.pool.shape[1]:
            raise ValueError(f"the queries have the shape {tuple(query.shape)}; give (queries, {self.pool.shape[1]}).")
        if k < 1:
            raise ValueError(f"k is {k}; give at least 1.")
        k = min(k, len(self.pool))
        if not len(query):
            return Neighbours(self.scale.new_empty(0, k), self.scale.new_empty(0, k, dtype=torch.long))
        found = [self._block(block, k) for block in query.float().to(self.pool.device).split(QUERIES)]
        score, index = (torch.cat(part) for part in zip(*found, strict=True))
        return Neighbours((1 - score).clamp(min=0), index)

    def _block(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        query = torch.nn.functional.normalize(query, dim=1)
        many = k + CANDIDATES
        if self.coarse == "float32" or many >= len(self.pool):
            return self._exact(query, k)
        coarse, index = self._candidates(query, many)
        score = self._scores(query, index)
        centred = score - (query @ self.mean)[:, None]
        error = (centred - coarse).square().mean().sqrt()
        best, order = score.topk(k)
        doubtful = (centred.gather(1, order[:, -1:])[:, 0] < coarse[:, -1] + SAFE * error).nonzero()[:, 0]
        index = index.gather(1, order)
        if len(doubtful):
            best[doubtful], index[doubtful] = self._exact(query[doubtful], k)
        return best, index

    def _candidates(self, query: Tensor, many: int) -> tuple[Tensor, Tensor]:
        """Return the `many` best coarse scores, relative to the pool's mean, and their indices."""
        step, small = self._small(query.clone(), each_row=True)
        running = _Running(len(query), many, query.device)
        for block, its_step in zip(self.small, self.steps, strict=True):
            running.add(torch._int_mm(small, block.T) if self.coarse == "int8" else small @ block.T, step * its_step)
        return running.best

    def _scores(self, query: Tensor, index: Tensor) -> Tensor:
        """Return the cosines of each unit query with its candidates, in float32."""
        scores = []
        for some, which in zip(query.split(RESCORED), index.split(RESCORED), strict=True):
            chosen = self.pool.index_select(0, which.flatten()).float().unflatten(0, which.shape)
            scores.append(torch.bmm(chosen, some[:, :, None])[:, :, 0])
        return torch.cat(scores) * self.scale[index]

    def _exact(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        running = _Running(len(query), k, query.device)
        for block, scale in self._blocks():
            running.add((query @ block.float().T).mul_(scale), query.new_ones(len(query), 1))
        return running.best


class _Running:
    """Running top-k of every row, over blocks of columns."""

    def __init__(self, rows: int, many: int, device: torch.device) -> None:
        self._score = torch.full((rows, many), -torch.inf, device=device)
        self._index = torch.zeros(rows, many, dtype=torch.long, device=device)
        self._seen = 0

    def add(self, scores: Tensor, step: Tensor) -> None:
        """Add the scores (rows, columns) of the next columns, each row in units of its step (rows, 1)."""
        worst = self._score.amin(1, keepdim=True)
        better = (scores.amax(1, keepdim=True) * step > worst).nonzero()[:, 0]  # soon only few rows improve
        if len(better):
            some = scores if len(better) == len(scores) else scores[better]
            score, index = _shortlist(some, self._score.shape[1])
            score = torch.cat([self._score[better], score * step[better]], 1)
            index = torch.cat([self._index[better], index + self._seen], 1)
            self._score[better], order = score.topk(self._score.shape[1])
            self._index[better] = index.gather(1, order)
        self._seen += scores.shape[1]

    @property
    def best(self) -> tuple[Tensor, Tensor]:
        """Scores and columns (rows, many), best first."""
        return self._score, self._index


def _shortlist(scores: Tensor, many: int) -> tuple[Tensor, Tensor]:
    """Return scores and columns of the groups with the best maxima in every row, which include the `many` best."""
    rows, columns = scores.shape
    stride = columns // GROUP  # group g holds the columns g, g + stride, ...; the rest is always listed
    every = torch.arange(columns, device=scores.device)
    if stride <= many:
        return scores, every.expand(rows, -1)
    grouped = stride * GROUP
    groups = scores[:, :grouped].unflatten(1, (GROUP, stride)).amax(1).topk(many, sorted=False).indices
    members = (groups[:, None] + stride * every[:GROUP, None]).flatten(1)
    listed = torch.cat([members, every[grouped:].expand(rows, -1)], 1)
    return scores.gather(1, listed), listed


def _fastest(pool: Tensor) -> str:
    if fast_int8(pool.device):
        return "int8"
    return "bfloat16" if fast_bfloat16(pool.device) else "float32"
