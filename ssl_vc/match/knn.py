"""kNN: every frame becomes the mean of its k nearest ones among the target's.

Baas, van Niekerk and Kamper, 2023, "Voice Conversion With Just Nearest Neighbors", arXiv 2305.18975: nearest by cosine,
a plain mean of frames that are not normalised. Each frame is chosen for itself; `smooth` minds its neighbours.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.match.protocol import Match, Pool


class KNN(NamedTuple):
    """The mean of the k nearest.

    Attributes:
        k: how many; all of a pool that has fewer.
        weighted: weigh each with 1 / distance instead of alike.
    """

    k: int = 4
    weighted: bool = False

    @torch.no_grad()
    def __call__(self, pieces: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        """Give the target's frames for a clip's; see `Matcher`."""
        for piece in pieces:
            distance, index = pool.nearest(piece, self.k)
            nearest = distance[:, 0] if len(piece) else distance.new_empty(0)
            yield Match(average(pool.synthesis, index, distance if self.weighted else None), nearest)


def average(frames: Tensor, index: Tensor, distance: Tensor | None = None) -> Tensor:
    """Give the mean of the chosen frames (queries, dim), weighed with 1 / distance if that is given.

    Args:
        frames: what is chosen from (frames, dim).
        index: which ones (queries, k).
        distance: how far each is (queries, k).
    """
    if distance is None:
        share = torch.full(index.shape, 1 / index.shape[1], device=frames.device)
    else:
        weight = 1 / distance.clamp(min=1e-6)  # below that a distance is the rounding of a float32
        share = weight / weight.sum(1, keepdim=True)
    total = torch.zeros(len(index), frames.shape[1], device=frames.device)
    for column, part in zip(index.unbind(1), share.unbind(1), strict=True):
        total.addcmul_(frames.index_select(0, column).float(), part[:, None])
    return total
