"""The interface of a pretraining objective: settings that prepare a batch, and a module with the losses.

Losses are sums, which the trainer divides by counts over all processes and accumulated batches. So the split of a step
does not change its gradient.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor, nn

from pretrain.data.batch import Batch, Prepared
from pretrain.data.manifest import Samples
from pretrain.encoder import EncoderConfig, SpeechEncoder


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


def scale_gradient(frames: Tensor, scale: float) -> Tensor:
    """Return the frames unchanged; their gradients are multiplied by `scale`."""
    if scale != 1.0 and frames.requires_grad:
        frames = frames.view_as(frames)  # a hook is for what follows, not for other uses of the frames
        frames.register_hook(lambda grad: grad * scale)
    return frames


class Settings:
    """Base class of an objective's settings, which are a frozen dataclass.

    Attributes:
        needs_labels: whether it trains on at least one set of labels.
        two_views: whether every clip is in its batches twice, see `pretrain.data.batch`.
        needs: the values that fields of the encoder's shape may have.
    """

    needs_labels: ClassVar[bool] = True
    two_views: ClassVar[bool] = False
    needs: ClassVar[Mapping[str, Sequence[object]]] = {}

    def check(self, shape: EncoderConfig) -> None:
        """Raise ValueError for an encoder that the method cannot train."""
        for name, possible in self.needs.items():
            if (value := getattr(shape, name)) not in possible:
                wanted = " or ".join(str(of).lower() for of in possible)
                raise ValueError(
                    f"the encoder has {name} {str(value).lower()}, and this objective needs {wanted}; set "
                    f"shape.{name}, or choose another encoder or objective."
                )

    def prepare(
        self, wavs: list[Samples], counts: list[int], generators: list[np.random.Generator], training: bool
    ) -> Prepared:
        """Augment and mask a batch's waveforms; unchanged, with empty masks, by default.

        Args:
            wavs: of the clips (samples,).
            counts: frames of each clip.
            generators: a random generator for each clip.
            training: False in validation, which is to be the same each time.
        """
        return Prepared(wavs, [np.zeros(count, bool) for count in counts])


class Objective(nn.Module):
    """A pretraining method: its heads and losses.

    Args:
        settings: of the method.
        encoder: that is trained; for its shape, and for copies of its parts.
        clusters: in each label set.
        gradient_scales: of the encoder's gradients from each label set; 1 if empty.

    Attributes:
        weights: of the losses in the total.
        batch_wide: whether a loss is not a sum over clips, so that steps cannot be divided into several batches.
        exported: the modules, of `encoder.` or `objective.`, that are written beside the encoder: a `quantiser` of the
            front end's features, and what goes with it.
    """

    weights: Mapping[str, float]
    exported: ClassVar[Sequence[str]] = ()
    batch_wide: ClassVar[bool] = False

    def __init__(
        self,
        settings: Any,
        encoder: SpeechEncoder,
        clusters: Sequence[int] = (),
        gradient_scales: Sequence[float] = (),
    ) -> None:
        super().__init__()
        settings.check(encoder.config)
        self.settings = settings
        self.add_heads(encoder)

    def add_heads(self, encoder: SpeechEncoder) -> None:
        """Create the loss weights, and the modules that are trained beside the encoder; here none."""

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, int]:
        """Return the denominator of each loss, from the batch alone."""

    @abstractmethod
    def forward(self, encoder: SpeechEncoder, batch: Batch, progress: float = 0.0) -> ObjectiveOutput:
        """Return the summed losses; `progress` is the fraction of the training that is done."""

    @abstractmethod
    def metrics(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Compute metrics from the summed statistics."""

    def after_step(self, encoder: SpeechEncoder, step: int, progress: float, stats: Mapping[str, Tensor]) -> None:
        """Update, for example, a teacher after each step, of which these are the statistics; nothing by default."""
