"""The interface of a pretraining objective: settings that augment and mask a batch, and a module with the losses.

Losses are sums, which the trainer divides by counts over all processes and accumulated batches. So the split of a step
does not change its gradient.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from pretrain.data.batch import Batch, Mask
from pretrain.data.manifest import Samples
from pretrain.encoder import SpeechEncoder


class ObjectiveOutput(NamedTuple):
    """An objective's result for a batch.

    Attributes:
        losses: summed over the batch, by name.
        stats: sufficient statistics of the metrics, which are summed over batches and processes.
        layers: of the encoder, (batch, frames, dim) each; the last one normalised if the encoder is pre-norm.
    """

    losses: dict[str, Tensor]
    stats: dict[str, Tensor]
    layers: list[Tensor]


class Settings:
    """Base class of an objective's settings, which are a frozen dataclass."""

    def prepare(
        self, wavs: list[Samples], counts: list[int], generators: list[np.random.Generator], training: bool
    ) -> tuple[list[Samples], list[Mask]]:
        """Return the waveforms, augmented, and the mask of the frames to predict; unchanged and empty by default."""
        return wavs, [np.zeros(count, bool) for count in counts]


class Objective(nn.Module):
    """A pretraining method: its heads and losses.

    Attributes:
        weights: of the losses in the total.
    """

    weights: Mapping[str, float]

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, int]:
        """Return the denominator of each loss, from the batch alone."""

    @abstractmethod
    def forward(self, encoder: SpeechEncoder, batch: Batch) -> ObjectiveOutput:
        """Return the summed losses."""

    @abstractmethod
    def metrics(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Compute metrics from the summed statistics."""

    def after_step(self, encoder: SpeechEncoder, step: int) -> None:
        """Update, for example, a teacher after each step; does nothing by default."""
