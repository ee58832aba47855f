"""Approximate neighbours for hours of reference: only the cells of the pool that lie nearest to a query are looked at.

An inverted file (Jégou, Douze and Schmid, 2011, "Product quantization for nearest neighbor search") as faiss has it,
its frames unquantised. How many cells are looked at is not left to chance: as many as find the exact neighbours of
frames that lie between those of the pool, where a source's may lie. Needs faiss (extra `train`) and a copy of the pool.
"""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_vc.match.search import Neighbours, Search

WANTED = 0.99  # share of the exact neighbours that must be found
ASKED = 256  # frames that it is tried on
K = 16  # neighbours of each
TRAINED = 40  # frames for each cell when the cells are made
BLOCK = 65_536  # frames indexed at a time


class ApproximateSearch:
    """The frames of a pool (frames, dim), in cells; used as `Search` is.

    Args:
        pool: what is searched.
    """

    def __init__(self, pool: Tensor) -> None:
        faiss = _faiss()
        self.pool = pool
        frames, dim = pool.shape
        cells = max(1, min(round(4 * frames**0.5), frames // TRAINED))
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.seed = 0
        chosen = torch.linspace(0, frames - 1, min(frames, cells * TRAINED)).round().long()
        self._index.train(_units(pool[chosen.to(pool.device)]))
        for block in pool.split(BLOCK):
            self._index.add(_units(block))
        self.recall = self._widen(cells)
        """Share of the exact neighbours that it found when it was tried."""

    def _widen(self, cells: int) -> float:
        """Look at more cells until enough is found, and give the share."""
        asked = between(self.pool)
        exact = Search(self.pool)(asked, K).index
        self._index.nprobe = 1
        while True:
            found = self(asked, K).index
            recall = float((exact[:, :, None] == found[:, None]).any(2).float().mean())
            if recall >= WANTED or self._index.nprobe >= cells:
                return recall
            self._index.nprobe *= 2

    def __call__(self, query: Tensor, k: int) -> Neighbours:
        """Find k near frames of each query (queries, dim), nearest first; all where the pool has fewer than k."""
        if k < 1:
            raise ValueError(f"k is {k}; give at least 1.")
        k = min(k, len(self.pool))
        score, index = (torch.from_numpy(found).to(query.device) for found in self._index.search(_units(query), k))
        few = (index < 0).any(1)  # the cells that were looked at held fewer than k
        distance = (1 - score).clamp(min=0)
        if bool(few.any()):
            distance[few], index[few] = Search(self.pool)(query[few], k)
        return Neighbours(distance, index)


def between(pool: Tensor) -> Tensor:
    """Give frames (ASKED, dim) that lie half-way between two of the pool each."""
    first = torch.linspace(0, len(pool) - 1, ASKED).round().long()
    second = (first + len(pool) // 3) % len(pool)
    return (pool[first].float() + pool[second].float()) / 2


def _units(frames: Tensor) -> Any:
    return normalize(frames.float(), dim=1).cpu().contiguous().numpy()


def _faiss() -> Any:
    try:
        return import_module("faiss")
    except ImportError:
        raise ValueError("the approximate index needs faiss; pip install 'ssl-vc[train]', or leave it out.") from None
