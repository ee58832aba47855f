"""Linear: one matrix for all frames, fitted to the source's frames and their nearest neighbours in the target.

Kamper, van Niekerk, Zaïdi and Carbonneau, 2025, "LinearVC: Linear transformations of self-supervised features through
the lens of voice conversion", arXiv 2506.01510: y = x W by least squares. More intelligible than kNN, and without
discontinuities.

Here W is regularised towards the identity, with the weight of as many frames as a frame has dimensions. The paper's
plain least squares (`ridge=0`) reproduces the neighbours of a source with fewer frames than that, errors included.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.match.protocol import Match, Pool
from ssl_vc.match.replay import CHUNK, replay

FITTED = 8192  # frames of the source, evenly spaced


class Linear(NamedTuple):
    """One matrix for the whole clip.

    Attributes:
        rank: of the matrix: 64 to 128 suffice for intelligibility; 0 for full rank.
        orthogonal: rotate only: more intelligible, but keeps more of the source's voice.
        ridge: strength of the regularisation; 0 is plain least squares (the minimum-norm solution).
    """

    rank: int = 0
    orthogonal: bool = False
    ridge: float = 1.0

    def __call__(self, chunks: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        """Yield the target's frames for a clip's; see `Matcher`. Only frames used for the fit have distances."""
        if self.rank < 0:
            raise ValueError(f"the rank is {self.rank}; give 1 or more, or 0 for full rank.")
        if self.ridge < 0:
            raise ValueError(f"ridge is {self.ridge}; give 0 (plain least squares) or more.")
        if self.orthogonal and self.rank:
            raise ValueError(f"orthogonal and rank {self.rank} exclude each other; give one of the two.")
        if self.orthogonal and not pool.same_space:
            raise ValueError("orthogonal rotates frames, but this voice's vocoder reads others; choose linear or knn.")
        return self._convert(chunks, pool)

    @torch.no_grad()
    def _convert(self, chunks: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        with replay(chunks) as source:
            if not len(source):
                return
            fitted = _evenly_spaced(len(source), FITTED)
            masked = zip(source, fitted.split(CHUNK), strict=True)
            subset = torch.cat([chunk[mask.to(chunk.device)] for chunk, mask in masked])
            nearest = pool.nearest(subset, 1)
            distance = torch.full((len(source),), torch.nan)
            distance[fitted] = nearest.distance[:, 0].cpu()
            target = pool.synthesis.index_select(0, nearest.index[:, 0])
            fit = self._fit(subset, target, pool.same_space)
            source_mean, matrix, target_mean = (part.float().to(target.device) for part in fit)
            for chunk, distances in zip(source, distance.split(CHUNK), strict=True):
                yield Match((chunk - source_mean) @ matrix + target_mean, distances.to(chunk.device))

    def _fit(self, source: Tensor, target: Tensor, same_space: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return the offset of the source (dim,), the matrix (dim, other dim) and the offset of the target."""
        x, y = (frames.to("cpu", torch.float64) for frames in (source, target))  # not every accelerator has float64
        penalty = self.ridge * x.var(0, correction=0).sum()
        if same_space:
            mean_x, mean_y = x.new_zeros(x.shape[1]), y.new_zeros(y.shape[1])  # the frames' own mean is bias enough
        else:
            mean_x, mean_y = x.mean(0), y.mean(0)
        gram, moment = (x - mean_x).T @ (x - mean_x), (x - mean_x).T @ (y - mean_y)
        gram.diagonal().add_(penalty)
        if same_space:
            moment.diagonal().add_(penalty)  # towards the identity; otherwise towards the target's mean
        if self.orthogonal:
            left, _, right = torch.linalg.svd(moment)
            return mean_x, left @ right, mean_y
        matrix = torch.linalg.pinv(gram, hermitian=True) @ moment
        if self.rank:
            # reduced-rank regression: the best map of this rank keeps the principal directions of the full one's output
            main = torch.linalg.eigh(matrix.T @ gram @ matrix).eigenvectors[:, -self.rank :]
            matrix = matrix @ main @ main.T
        return mean_x, matrix, mean_y


def _evenly_spaced(frames: int, most: int) -> Tensor:
    """Return a mask (frames,) of at most `most` evenly spaced frames."""
    mask = torch.zeros(frames, dtype=torch.bool)
    count = min(frames, most)
    mask[torch.arange(count) * frames // count] = True
    return mask
