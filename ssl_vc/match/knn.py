"""kNN matcher: every frame becomes the mean of its k nearest neighbours among the target's.

Baas, van Niekerk and Kamper, 2023, "Voice Conversion With Just Nearest Neighbors", arXiv 2305.18975: nearest by cosine,
a plain mean of unnormalised frames. Frames are matched independently; `smooth` considers the sequence.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.match.protocol import Match, Pool


class KNN(NamedTuple):
    """The mean of the k nearest neighbours.

    Attributes:
        k: number of neighbours; all frames of a smaller pool.
        weighted: weight each by 1 / distance instead of equally.
    """

    k: int = 4
    weighted: bool = False

    @torch.no_grad()
    def __call__(self, chunks: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        """Yield the target's frames for a clip's; see `Matcher`."""
        for chunk in chunks:
            distance, index = pool.nearest(chunk, self.k)
            nearest = distance[:, 0] if len(chunk) else distance.new_empty(0)
            yield Match(average(pool.synthesis, index, distance if self.weighted else None), nearest)


def average(frames: Tensor, index: Tensor, distance: Tensor | None = None) -> Tensor:
    """Return the mean of the selected frames (queries, dim), weighted by 1 / distance if that is given.

    Args:
        frames: to select from (frames, dim).
        index: of the selected frames (queries, k).
        distance: to the query (queries, k).
    """
    if distance is None:
        share = torch.full(index.shape, 1 / index.shape[1], device=frames.device)
    else:
        weight = 1 / distance.clamp(min=1e-6)  # below that a distance is float32 rounding
        share = weight / weight.sum(1, keepdim=True)
    total = torch.zeros(len(index), frames.shape[1], device=frames.device)
    for column, part in zip(index.unbind(1), share.unbind(1), strict=True):
        total.addcmul_(frames.index_select(0, column).float(), part[:, None])
    return total
