"""Teachers: copies of a network whose weights follow its own, as an exponential moving average."""

from copy import deepcopy
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Teacher(nn.Module, Generic[Network]):
    """A copy of a network that is never in training mode and has no gradient.

    Attributes:
        network: the copy.
    """

    network: Network

    def __init__(self, student: Network) -> None:
        super().__init__()
        self.network = deepcopy(student).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a teacher has no dropout."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, student: Network, decay: float) -> None:
        """Move the weights towards the student's; `decay` is the share that is kept."""
        for mine, theirs in zip(self.network.parameters(), student.parameters(), strict=True):
            mine.lerp_(theirs.to(mine.dtype), 1 - decay)


def annealed(start: float, end: float, step: int, steps: int) -> float:
    """Return a number that goes linearly from `start` to `end` within `steps` steps, and stays there."""
    return end if step >= steps else end - (end - start) * (1 - step / steps)


def normalised_over_time(frames: Tensor, real: Tensor) -> Tensor:
    """Scale each channel of (batch, frames, dim) to mean 0 and variance 1 over a clip's real frames (batch, frames)."""
    real, count = real[:, :, None], real.sum(1)[:, None, None]
    mean = (frames * real).sum(1, keepdim=True) / count
    variance = ((frames - mean) * real).square().sum(1, keepdim=True) / count
    return (frames - mean) * torch.rsqrt(variance + 1e-5)
