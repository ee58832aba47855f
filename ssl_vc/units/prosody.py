"""Prosody predictor: duration, voicing and F0 of units from their neighbours in the sequence."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, KERNEL, DEPTH = 128, 5, 3
CONTEXT = DEPTH * (KERNEL // 2)  # runs on either side that a prediction depends on
CHUNK = 4096  # runs predicted at a time
MAX_DURATION = 100  # frames of a run


class Prosody(NamedTuple):
    """Predicted prosody of runs of units.

    Attributes:
        durations: frames of each run (runs,), at least 1.
        voiced: voicing of each run (runs,).
        log_f0: of each run, relative to the voice's median (runs,).
    """

    durations: Tensor
    voiced: Tensor
    log_f0: Tensor


class ProsodyPredictor(nn.Module):
    """Convolutions over runs of units.

    Args:
        clusters: number of units.
    """

    def __init__(self, clusters: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(clusters, WIDTH)
        self.convolutions = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2) for _ in range(DEPTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(DEPTH))
        self.out = nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor) -> Tensor:
        """Map runs (batch, runs) to log duration, voicing logit and log F0 (batch, runs, 3)."""
        x = self.embed(ids)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = x + F.gelu(convolution(norm(x).transpose(1, 2)).transpose(1, 2))
        predicted: Tensor = self.out(x)
        return predicted

    def loss(self, ids: Tensor, durations: Tensor, voiced: Tensor, log_f0: Tensor) -> Tensor:
        """Returns the loss on runs (batch, runs); a duration of 0 marks padding."""
        predicted, mask = self(ids), durations > 0
        duration_loss = (predicted[..., 0] - durations.clamp(min=1).log()).abs()[mask].mean()
        voicing_loss = F.binary_cross_entropy_with_logits(predicted[..., 1], voiced, reduction="none")[mask].mean()
        has_f0 = mask & (voiced > 0.5)
        f0_loss = (predicted[..., 2] - log_f0).abs()[has_f0].sum() / has_f0.sum().clamp(min=1)
        return duration_loss + voicing_loss + 2 * f0_loss

    @torch.no_grad()
    def predict(self, ids: Tensor) -> Prosody:
        """Returns the prosody of runs (runs,)."""
        windows = [(max(at - CONTEXT, 0), at, at + CHUNK) for at in range(0, len(ids), CHUNK)]
        predicted = torch.cat(
            [self(ids[None, start : stop + CONTEXT])[0, at - start : stop - start] for start, at, stop in windows]
        )
        durations = predicted[:, 0].exp().round().long().clamp(1, MAX_DURATION)
        return Prosody(durations, predicted[:, 1] > 0, predicted[:, 2])
