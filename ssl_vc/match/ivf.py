"""Approximate nearest neighbours for hours of reference: only the cells nearest to a query are probed.

An inverted file (Jégou, Douze and Schmid, 2011, "Product quantization for nearest neighbor search") as in faiss, with
unquantised frames. The number of probes is tuned: it is raised until the exact neighbours are found of frames halfway
between those of the pool, where a source's may lie. Needs faiss (extra `train`) and a copy of the pool.
"""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_vc.match.search import Neighbours, Search

RECALL = 0.99  # share of the exact neighbours that must be found
QUERIES = 256  # on which the recall is measured
K = 16  # neighbours of each query
TRAINED = 40  # frames per cell that the k-means is fitted on
BLOCK = 65_536  # frames indexed at a time


class ApproximateSearch:
    """An inverted file of a pool (frames, dim), with the interface of `Search`.

    Args:
        pool: the frames to search.
    """

    def __init__(self, pool: Tensor) -> None:
        faiss = _faiss()
        self.pool = pool
        frames, dim = pool.shape
        cells = max(1, min(round(4 * frames**0.5), frames // TRAINED))
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.seed = 0
        chosen = torch.linspace(0, frames - 1, min(frames, cells * TRAINED)).round().long()
        self._index.train(_normalized(pool[chosen.to(pool.device)]))
        for block in pool.split(BLOCK):
            self._index.add(_normalized(block))
        self.recall = self._tune_probes(cells)
        """Measured share of the exact neighbours that the search finds."""

    def _tune_probes(self, cells: int) -> float:
        """Double the number of probes until the recall suffices, and return the recall."""
        queries = interpolated_queries(self.pool)
        exact = Search(self.pool)(queries, K).index
        self._index.nprobe = 1
        while True:
            found = self(queries, K).index
            recall = float((exact[:, :, None] == found[:, None]).any(2).float().mean())
            if recall >= RECALL or self._index.nprobe >= cells:
                return recall
            self._index.nprobe *= 2

    def __call__(self, query: Tensor, k: int) -> Neighbours:
        """Return about the k nearest frames of each query (queries, dim), nearest first; all of a smaller pool."""
        if k < 1:
            raise ValueError(f"k is {k}; give at least 1.")
        k = min(k, len(self.pool))
        score, index = (torch.from_numpy(found).to(query.device) for found in self._index.search(_normalized(query), k))
        few = (index < 0).any(1)  # the probed cells hold fewer than k
        distance = (1 - score).clamp(min=0)
        if bool(few.any()):
            distance[few], index[few] = Search(self.pool)(query[few], k)
        return Neighbours(distance, index)


def interpolated_queries(pool: Tensor) -> Tensor:
    """Return queries (QUERIES, dim), each halfway between two frames of the pool."""
    first = torch.linspace(0, len(pool) - 1, QUERIES).round().long()
    second = (first + len(pool) // 3) % len(pool)
    return (pool[first].float() + pool[second].float()) / 2


def _normalized(frames: Tensor) -> Any:
    return normalize(frames.float(), dim=1).cpu().contiguous().numpy()


def _faiss() -> Any:
    try:
        return import_module("faiss")
    except ImportError:
        raise ValueError("the approximate index needs faiss; pip install 'ssl-vc[train]', or search exactly.") from None
