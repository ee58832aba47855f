"""Prediction of later frames: which frames predict which, in a batch of clips of different lengths.

context   c_t . . .                  a step k predicts the frame that is `first + k - 1` after t
frames        . x x x                frames too near a clip's end to have all of theirs predict none
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from pretrain.objectives.protocol import Settings


@dataclass(frozen=True, kw_only=True)
class FutureSettings(Settings):
    """Settings of methods that tell later frames from others.

    Attributes:
        steps: how far ahead frames are predicted; 12 steps of 10 ms as published.
        negatives: frames of the same clip that a frame is told from.
    """

    steps: int = 6
    negatives: int = 10
    needs_labels: ClassVar[bool] = False
    needs: ClassVar[Mapping[str, Sequence[object]]] = {"causal": (True,)}

    def __post_init__(self) -> None:
        if self.steps < 1 or self.negatives < 1:
            raise ValueError(f"steps is {self.steps} and negatives {self.negatives}; both must be at least 1.")


class Future(NamedTuple):
    """Frames of a batch whose clips are concatenated without padding.

    Attributes:
        position: of the predicting frames (predicting,).
        ahead: of the frames that each predicts (predicting, steps).
    """

    position: Tensor
    ahead: Tensor


def future_frames(counts: Tensor, steps: int, first: int = 1) -> Future:
    """Return the predicting and the predicted frames of clips with so many frames (clips,)."""
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    left = counts.repeat_interleave(counts) - (torch.arange(len(starts), device=counts.device) - starts)
    position = (left > steps + first - 1).nonzero().flatten()
    return Future(position, position[:, None] + first + torch.arange(steps, device=counts.device))


def count_predicting(counts: Tensor, steps: int, first: int = 1) -> int:
    """Count the predicting frames of clips with so many frames (clips,)."""
    return int((counts - steps - first + 1).clamp(min=0).sum())
