"""Prosody: how long a unit lasts, whether it is voiced and how high it is, guessed from the units around it."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, KERNEL, DEPTH = 128, 5, 3
LONGEST = 100  # frames that a run may be guessed to last


class Guess(NamedTuple):
    """What is guessed of runs of units.

    Attributes:
        lengths: frames of each run (runs,), from 1 on.
        voiced: whether it is voiced (runs,).
        height: its log F0 beside the voice's median (runs,).
    """

    lengths: Tensor
    voiced: Tensor
    height: Tensor


class Prosody(nn.Module):
    """Convolutions over runs of units.

    Args:
        clusters: how many units there are.
    """

    def __init__(self, clusters: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(clusters, WIDTH)
        self.convolutions = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2) for _ in range(DEPTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(DEPTH))
        self.out = nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor) -> Tensor:
        """Map runs (batch, runs) to log length, logit of being voiced, and log F0 (batch, runs, 3)."""
        x = self.embed(ids)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = x + F.gelu(convolution(norm(x).transpose(1, 2)).transpose(1, 2))
        told: Tensor = self.out(x)
        return told

    def loss(self, ids: Tensor, lengths: Tensor, voiced: Tensor, height: Tensor) -> Tensor:
        """Compare guesses for runs (batch, runs) with what they were; where `lengths` is 0 there is no run."""
        told, there = self(ids), lengths > 0
        length = (told[..., 0] - lengths.clamp(min=1).log()).abs()[there].mean()
        voicing = F.binary_cross_entropy_with_logits(told[..., 1], voiced, reduction="none")[there].mean()
        heard = there & (voiced > 0.5)
        pitch = (told[..., 2] - height).abs()[heard].sum() / heard.sum().clamp(min=1)
        return length + voicing + 2 * pitch

    @torch.no_grad()
    def guess(self, ids: Tensor) -> Guess:
        """Guess of runs (runs,)."""
        told = self(ids[None])[0]
        return Guess(told[:, 0].exp().round().long().clamp(1, LONGEST), told[:, 1] > 0, told[:, 2])
