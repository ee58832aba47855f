"""Transport: the source's frames get the target's mean and covariance, by the smallest change that does it.

Pitié and Kokaram, 2007, "The linear Monge-Kantorovitch linear colour mapping": between two Gaussians that change is one
symmetric matrix in closed form. Lobashev, Yermekova and Larchenko, 2025, "Training-Free Voice Conversion with
Factorized Optimal Transport", arXiv 2506.09709: one for each small block of dimensions, sorted by the source's
variance. Seconds of the target are enough, since no frame of it is looked for.

Here everything is symmetric and in float64, and a direction that does not vary in the source goes to the target's mean.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.match.protocol import Match, Pool
from ssl_vc.match.replay import replay

SPARE = 4  # frames there must be beyond the dimensions of a block
CHUNK = 4096  # frames of the pool measured at a time


class Transport(NamedTuple):
    """A symmetric matrix for each block of dimensions.

    Attributes:
        block: how many dimensions are moved together; fewer where the source or the target has few frames.
    """

    block: int = 16

    def __call__(self, pieces: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        """Give the target's frames for a clip's; see `Matcher`. No frame is looked for, so every distance is NaN."""
        if self.block < 1:
            raise ValueError(f"block is {self.block}; give at least 1 dimension, 2 to 256 are useful.")
        if not pool.same_space:
            raise ValueError("transport moves frames, but this voice's vocoder reads others; choose linear or knn.")
        return self._convert(pieces, pool)

    @torch.no_grad()
    def _convert(self, pieces: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        with replay(pieces) as source:
            if not len(source):
                return
            target = pool.frames.split(CHUNK)
            block = max(1, min(self.block, len(source) - SPARE, len(pool.frames) - SPARE))
            mean, variance = _moments(source)
            target_mean, _ = _moments(target)
            order = variance.argsort(descending=True, stable=True)
            floor = (10 * torch.finfo(torch.float32).eps) ** 2 * float((mean.square() + variance).max())
            maps = gaussian_map(
                _covariances(source, mean, order, block), _covariances(target, target_mean, order, block), floor
            )
            device = pool.frames.device
            here, there, order = mean.float().to(device), target_mean.float().to(device), order.to(device)
            maps = maps.float().to(device)
            for piece in source:
                moved = _unblocked(torch.einsum("nbi,bij->nbj", _blocks(piece - here, order, block), maps), order)
                yield Match(moved + there, piece.new_full((len(piece),), torch.nan))


def gaussian_map(source: Tensor, target: Tensor, floor: float = 0.0) -> Tensor:
    """Give the symmetric matrices A of which A source A = target.

    Args:
        source: covariances (..., dim, dim), float64.
        target: those to become.
        floor: the variance of a direction of the source below which it is rounding, and not blown up.
    """
    value, vector = torch.linalg.eigh(source)
    root = value.clamp(min=0).sqrt()
    inverse = torch.where(value > floor, 1 / root, 0.0)
    half = _assembled(root, vector)
    value, inner = torch.linalg.eigh(half @ target @ half)
    outside = _assembled(inverse, vector)
    return outside @ _assembled(value.clamp(min=0).sqrt(), inner) @ outside


def _assembled(value: Tensor, vector: Tensor) -> Tensor:
    return (vector * value[..., None, :]) @ vector.mT


def _moments(pieces: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Measure mean and variance of every dimension (dim,)."""
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for piece in pieces:
        frames = piece.to("cpu", torch.float64)  # not every accelerator has float64
        count, total, square = count + len(frames), total + frames.sum(0), square + frames.square().sum(0)
    mean = total / count
    return mean, (square / count - mean.square()).clamp(min=0)


def _covariances(pieces: Iterable[Tensor], mean: Tensor, order: Tensor, block: int) -> Tensor:
    """Measure the covariance (blocks, block, block) inside each block of the dimensions in that order."""
    count, total = 0, torch.zeros(())
    for piece in pieces:
        blocks = _blocks(piece.to("cpu", torch.float64) - mean, order, block)
        count, total = count + len(piece), total + torch.einsum("nbi,nbj->bij", blocks, blocks)
    return total / max(count - 1, 1)


def _blocks(frames: Tensor, order: Tensor, block: int) -> Tensor:
    """Cut the dimensions of frames (frames, dim), in that order, into (frames, blocks, block); zeros fill the last."""
    return torch.nn.functional.pad(frames[:, order], (0, -len(order) % block)).unflatten(1, (-1, block))


def _unblocked(blocks: Tensor, order: Tensor) -> Tensor:
    return blocks.flatten(1)[:, order.argsort()]
