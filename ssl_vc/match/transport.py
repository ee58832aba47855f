"""Transport: the optimal transport map that gives the source's frames the target's mean and covariance.

Pitié and Kokaram, 2007, "The linear Monge-Kantorovitch linear colour mapping": between two Gaussians the map is one
symmetric matrix in closed form. Lobashev, Yermekova and Larchenko, 2025, "Training-Free Voice Conversion with
Factorized Optimal Transport", arXiv 2506.09709: one for each small block of dimensions, sorted by the source's
variance. Seconds of the target suffice, since no neighbours are searched.

Here everything is symmetric and in float64, and directions without variance in the source map to the target's mean.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.match.protocol import Match, Pool
from ssl_vc.match.replay import replay

SPARE = 4  # frames required beyond the dimensions of a block
CHUNK = 4096  # frames of the pool processed at a time


class Transport(NamedTuple):
    """A symmetric matrix for each block of dimensions.

    Attributes:
        block: dimensions mapped together; fewer where the source or the target has few frames.
    """

    block: int = 16

    def __call__(self, chunks: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        """Yield the target's frames for a clip's; see `Matcher`. Nothing is searched, so every distance is NaN."""
        if self.block < 1:
            raise ValueError(f"block is {self.block}; give at least 1 dimension, 2 to 256 are useful.")
        if not pool.same_space:
            raise ValueError(
                "transport maps within one space, but this voice's vocoder reads another; choose linear or knn."
            )
        return self._convert(chunks, pool)

    @torch.no_grad()
    def _convert(self, chunks: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        with replay(chunks) as source:
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
            mean, target_mean, order = mean.float().to(device), target_mean.float().to(device), order.to(device)
            maps = maps.float().to(device)
            for chunk in source:
                mapped = _unblock(torch.einsum("nbi,bij->nbj", _blocks(chunk - mean, order, block), maps), order)
                yield Match(mapped + target_mean, chunk.new_full((len(chunk),), torch.nan))


def gaussian_map(source: Tensor, target: Tensor, floor: float = 0.0) -> Tensor:
    """Return the symmetric matrices A with A source A = target.

    Args:
        source: covariances (..., dim, dim), float64.
        target: covariances of the same shape.
        floor: variance in the source below which a direction is rounding error, and not amplified.
    """
    value, vector = torch.linalg.eigh(source)
    root = value.clamp(min=0).sqrt()
    inverse = torch.where(value > floor, 1 / root, 0.0)
    half = _from_eigen(root, vector)
    value, inner = torch.linalg.eigh(half @ target @ half)
    whitening = _from_eigen(inverse, vector)
    return whitening @ _from_eigen(value.clamp(min=0).sqrt(), inner) @ whitening


def _from_eigen(value: Tensor, vector: Tensor) -> Tensor:
    return (vector * value[..., None, :]) @ vector.mT


def _moments(chunks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and variance of every dimension (dim,)."""
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for chunk in chunks:
        frames = chunk.to("cpu", torch.float64)  # not every accelerator has float64
        count, total, square = count + len(frames), total + frames.sum(0), square + frames.square().sum(0)
    mean = total / count
    return mean, (square / count - mean.square()).clamp(min=0)


def _covariances(chunks: Iterable[Tensor], mean: Tensor, order: Tensor, block: int) -> Tensor:
    """Return the covariance (blocks, block, block) within each block of the sorted dimensions."""
    count, total = 0, torch.zeros(())
    for chunk in chunks:
        blocks = _blocks(chunk.to("cpu", torch.float64) - mean, order, block)
        count, total = count + len(chunk), total + torch.einsum("nbi,nbj->bij", blocks, blocks)
    return total / max(count - 1, 1)


def _blocks(frames: Tensor, order: Tensor, block: int) -> Tensor:
    """Split the sorted dimensions of frames (frames, dim) into (frames, blocks, block), zero-padded."""
    return torch.nn.functional.pad(frames[:, order], (0, -len(order) % block)).unflatten(1, (-1, block))


def _unblock(blocks: Tensor, order: Tensor) -> Tensor:
    return blocks.flatten(1)[:, order.argsort()]
