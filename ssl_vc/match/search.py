"""Exact nearest neighbours by cosine in bounded memory.

Coarse numbers find some candidates, float32 puts them in order:

    pool (float32) --> int8 or bfloat16 --> scores of a block --> best of every group --> best CANDIDATES --> float32

The coarse scores' error is seen on the candidates themselves. A query whose k-th best stands less than SAFE times that
error above what was left out is searched again in float32, so what comes out is what float32 alone would give.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.device import fast_bfloat16, fast_int8

CANDIDATES = 12  # beyond the k that are wanted
SAFE = 6.0  # standard deviations of the coarse scores' error
QUERIES = 512  # compared at a time
POOL = 4096  # frames of the pool compared at a time
GROUP = 16  # columns of which only the best is looked at first


class Neighbours(NamedTuple):
    """The nearest frames of some queries, nearest first.

    Attributes:
        distance: 1 - cosine (queries, k).
        index: in the pool (queries, k).
    """

    distance: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple's own `index` is not needed here


class Search:
    """The frames of a pool (frames, dim), ready to be searched on the device where they are.

    Args:
        pool: what is searched; it is not copied, but for a coarse copy of 1 or 2 bytes a number.
        coarse: what finds the candidates: `int8`, `bfloat16`, `float32` (nothing coarse), or `auto`, the fastest here.
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
        # less their mean the frames differ more in what is left; it is the same for all, so the order stays
        self.mean = torch.stack([scale @ block.float() for block, scale in self._blocks()]).sum(0) / len(pool)
        small = [self._small(block.float() * scale[:, None] - self.mean) for block, scale in self._blocks()]
        self.steps = [step for step, _ in small]
        self.small = [numbers for _, numbers in small]

    def _blocks(self) -> Iterable[tuple[Tensor, Tensor]]:
        return zip(self.pool.split(POOL), self.scale.split(POOL), strict=True)

    def _small(self, numbers: Tensor, each_row: bool = False) -> tuple[Tensor, Tensor]:
        """Give (step, coarse numbers), whose product is about `numbers`; one step for all, or one for each row."""
        if self.coarse == "bfloat16":
            return numbers.new_ones(()), numbers.bfloat16()
        largest = numbers.abs().amax(1, keepdim=True) if each_row else numbers.abs().amax()
        step = largest.clamp(min=1e-30) / 127
        return step, (numbers / step).round_().to(torch.int8)

    def __call__(self, query: Tensor, k: int) -> Neighbours:
        """Find the k nearest frames of each query (queries, dim); all of them where the pool has fewer than k."""
        if query.ndim != 2 or query.shape[1] != self.pool.shape[1]:
            raise ValueError(f"the queries have the shape {tuple(query.shape)}; give (queries, {self.pool.shape[1]}).")
        if k < 1:
            raise ValueError(f"k is {k}; give at least 1.")
        k = min(k, len(self.pool))
        found = [self._block(block, k) for block in query.float().to(self.pool.device).split(QUERIES)]
        if not found:
            return Neighbours(self.scale.new_empty(0, k), self.scale.new_empty(0, k, dtype=torch.long))
        score, index = (torch.cat(part) for part in zip(*found, strict=True))
        return Neighbours(1 - score, index)

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
        """Find the `many` best by coarse scores: those, less what the pool's mean gives, and where they are."""
        step, small = self._small(query, each_row=True)
        running = _Running(many)
        for block, its_step in zip(self.small, self.steps, strict=True):
            score, index = _best(torch._int_mm(small, block.T) if self.coarse == "int8" else small @ block.T, many)
            running.add(score.float() * (step * its_step), index, len(block))
        return running.score, running.index

    def _scores(self, query: Tensor, index: Tensor) -> Tensor:
        """Give the cosines of each unit query with its candidates, in float32."""
        chosen = self.pool.index_select(0, index.flatten()).float().view(*index.shape, -1)
        return torch.bmm(chosen, query[:, :, None])[:, :, 0] * self.scale[index]

    def _exact(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        running = _Running(k)
        for block, scale in self._blocks():
            running.add(*_best((query @ block.float().T).mul_(scale), k), len(block))
        return running.score, running.index


class _Running:
    """The best of every row, over blocks of columns."""

    score: Tensor
    index: Tensor

    def __init__(self, many: int) -> None:
        self.many, self.seen = many, 0

    def add(self, score: Tensor, index: Tensor, columns: int) -> None:
        """Take the best (rows, some) of the next block of so many columns."""
        index = index + self.seen
        if self.seen:
            score, index = torch.cat([self.score, score], 1), torch.cat([self.index, index], 1)
            score, order = score.topk(min(self.many, score.shape[1]))
            index = index.gather(1, order)
        self.score, self.index = score, index
        self.seen += columns


def _best(scores: Tensor, many: int) -> tuple[Tensor, Tensor]:
    """Give the best of every row and their columns: they lie in the groups whose best are best."""
    rows, columns = scores.shape
    stride = columns // GROUP  # group g holds the columns g, g + stride, ...; what is left over is looked at anyway
    if stride <= many:
        return scores.topk(min(many, columns))
    grouped = stride * GROUP
    groups = scores[:, :grouped].unflatten(1, (GROUP, stride)).amax(1).topk(many, sorted=False).indices
    members = stride * torch.arange(GROUP, device=scores.device)[:, None]
    rest = torch.arange(grouped, columns, device=scores.device).expand(rows, -1)
    inside = torch.cat([(groups[:, None] + members).flatten(1), rest], 1)
    score, order = scores.gather(1, inside).topk(many)
    return score, inside.gather(1, order)


def _fastest(pool: Tensor) -> str:
    if fast_int8(pool.device):
        return "int8"
    return "bfloat16" if fast_bfloat16(pool.device) else "float32"
