"""What every objective of pretraining is: settings that prepare the sound, and a module that gives sums of losses.

Losses are sums, and the trainer divides them by counts taken over all processes and all parts of a step. So how a step
is divided does not change its gradient.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from pretrain.data.batch import Batch, Mask
from pretrain.data.manifest import Samples
from pretrain.encoder import SpeechEncoder


class Outcome(NamedTuple):
    """What an objective says of a batch.

    Attributes:
        losses: sums, by name.
        tallies: what figures are made of, summed over batches and processes whatever its shape.
        layers: of the encoder, (batch, frames, dim) each; the last one normed if the encoder does.
    """

    losses: dict[str, Tensor]
    tallies: dict[str, Tensor]
    layers: list[Tensor]


class Settings:
    """Settings of an objective: a frozen dataclass under this class."""

    def prepare(
        self, wavs: list[Samples], counts: list[int], generators: list[np.random.Generator], training: bool
    ) -> tuple[list[Samples], list[Mask]]:
        """Give the sound to hear and the frames to guess; nothing is changed or masked unless an objective does so."""
        return wavs, [np.zeros(count, bool) for count in counts]


class Objective(nn.Module):
    """A method of pretraining: what it adds to the encoder, and its losses.

    Attributes:
        weights: of each loss in the whole.
    """

    weights: Mapping[str, float]

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, int]:
        """Say what each loss is to be divided by, from the batch alone."""

    @abstractmethod
    def forward(self, encoder: SpeechEncoder, batch: Batch) -> Outcome:
        """Give the sums of the losses."""

    @abstractmethod
    def figures(self, tallies: Mapping[str, Tensor]) -> dict[str, float]:
        """Make figures of the summed tallies."""

    def after_step(self, encoder: SpeechEncoder, step: int) -> None:
        """Follow the encoder after each step, as a teacher does; nothing unless an objective has one."""
