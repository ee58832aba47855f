"""Linear: one matrix for all frames, fitted to the source's frames and their nearest ones among the target's.

Kamper, van Niekerk, Zaïdi and Carbonneau, 2025, "LinearVC: Linear transformations of self-supervised features through
the lens of voice conversion", arXiv 2506.01510: y = x W by least squares. More words survive than with kNN, and nothing
jumps.

Here W is drawn towards the identity, with the weight of as many frames as a frame has numbers. The paper's plain least
squares (`ridge=0`) give a source of fewer frames than that its nearest frames back, with all that is wrong in them.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.match.protocol import Match, Pool
from ssl_vc.match.replay import PIECE, replay

FITTED = 8192  # frames of the source, evenly spread


class Linear(NamedTuple):
    """A matrix for the whole clip.

    Attributes:
        rank: how many directions of the target are kept: 64 to 128 are enough for the words; 0 keeps all.
        orthogonal: only turn the frames: more of the words survive, and more of the source's voice.
        ridge: how strongly frames are held where they are; 0 is plain least squares, the shortest of its solutions.
    """

    rank: int = 0
    orthogonal: bool = False
    ridge: float = 1.0

    def __call__(self, pieces: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        """Give the target's frames for a clip's; see `Matcher`. Distances are known of frames that were fitted."""
        if self.rank < 0:
            raise ValueError(f"the rank is {self.rank}; give 1 or more, or 0 for all directions.")
        if self.ridge < 0:
            raise ValueError(f"ridge is {self.ridge}; give 0 (plain least squares) or more.")
        if self.orthogonal and self.rank:
            raise ValueError(f"orthogonal keeps every direction and rank {self.rank} does not; give one of the two.")
        if self.orthogonal and not pool.same_space:
            raise ValueError("orthogonal turns frames, but this voice's vocoder reads others; choose linear or knn.")
        return self._convert(pieces, pool)

    @torch.no_grad()
    def _convert(self, pieces: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        with replay(pieces) as source:
            if not len(source):
                return
            fitted = _spread(len(source), FITTED)
            parts = zip(source, fitted.split(PIECE), strict=True)
            some = torch.cat([piece[part.to(piece.device)] for piece, part in parts])
            nearest = pool.nearest(some, 1)
            distance = torch.full((len(source),), torch.nan)
            distance[fitted] = nearest.distance[:, 0].cpu()
            target = pool.synthesis.index_select(0, nearest.index[:, 0])
            here, matrix, there = (part.float().to(target.device) for part in self._fit(some, target, pool.same_space))
            for piece, part in zip(source, distance.split(PIECE), strict=True):
                yield Match((piece - here) @ matrix + there, part.to(piece.device))

    def _fit(self, source: Tensor, target: Tensor, same_space: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Give what is taken from the source's frames, the matrix (dim, other dim), and what is added."""
        x, y = (frames.to("cpu", torch.float64) for frames in (source, target))  # not every accelerator has float64
        hold = self.ridge * x.var(0, correction=0).sum()
        if same_space:
            here, there = x.new_zeros(x.shape[1]), y.new_zeros(y.shape[1])  # the frames' own mean does for a constant
        else:
            here, there = x.mean(0), y.mean(0)
        gram, moment = (x - here).T @ (x - here), (x - here).T @ (y - there)
        gram.diagonal().add_(hold)
        if same_space:
            moment.diagonal().add_(hold)  # drawn towards the identity; else towards the target's mean
        if self.orthogonal:
            left, _, right = torch.linalg.svd(moment)
            return here, left @ right, there
        matrix = torch.linalg.pinv(gram, hermitian=True) @ moment
        if self.rank:
            # reduced-rank regression: the best map of this rank keeps the main directions of what the full one gives
            main = torch.linalg.eigh(matrix.T @ gram @ matrix).eigenvectors[:, -self.rank :]
            matrix = matrix @ main @ main.T
        return here, matrix, there


def _spread(frames: int, most: int) -> Tensor:
    """Mark at most so many of a clip's frames, evenly (frames,)."""
    marked = torch.zeros(frames, dtype=torch.bool)
    many = min(frames, most)
    marked[torch.arange(many) * frames // many] = True
    return marked
