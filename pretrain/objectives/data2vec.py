"""data2vec: a teacher's frames, predicted from masked input (Baevski et al., 2022, arXiv 2202.03555).

The teacher sees the whole clip; it is a moving average of the student's transformer. Targets are the feed-forward
outputs of its top blocks, before they are added to the residual stream, each normalised over time, and averaged.

    front end --> mask --> student --> projection --> prediction --.
        `----------------> teacher --> top blocks --> target ------'  squared error at the masked frames
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pretrain.data.batch import Batch
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.frontend import valid_frames
from pretrain.objectives.masking import MaskSettings
from pretrain.objectives.protocol import Objective, ObjectiveOutput, scale_gradient
from pretrain.objectives.teacher import Teacher, annealed, normalised_over_time


@dataclass(frozen=True, kw_only=True)
class Data2VecSettings(MaskSettings):
    """data2vec's settings.

    Attributes:
        mask_probability: see `MaskSettings`; .65 masks about 49 %.
        top_blocks: of the teacher, whose outputs are averaged; all if there are fewer.
        decay: of the moving average: at the start, and at the end.
        decay_steps: in which it rises, linearly.
        feature_grad: scale of the front end's gradients.
    """

    mask_probability: float = 0.65
    top_blocks: int = 8
    decay: tuple[float, float] = (0.999, 0.9999)
    decay_steps: int = 30_000
    feature_grad: float = 1.0
    needs_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay[0] <= self.decay[1] <= 1 or self.top_blocks < 1:
            raise ValueError(
                f"decay is {self.decay[0]} to {self.decay[1]} and top_blocks {self.top_blocks}; possible are 0 to 1, "
                "rising, and 1 or more."
            )


class Data2Vec(Objective):
    """data2vec's teacher and loss; see `Objective` for the arguments."""

    settings: Data2VecSettings

    def add_heads(self, encoder: SpeechEncoder) -> None:
        """Create the loss weights, and the modules that are trained beside the encoder."""
        self.weights = {"regression": 1.0}
        self.teacher = Teacher(encoder.transformer)
        self.project = nn.Linear(encoder.config.dim, encoder.config.dim)

    def counts(self, batch: Batch) -> dict[str, int]:
        """Count masked frames."""
        return {"regression": int(batch.mask.sum())}

    def forward(self, encoder: SpeechEncoder, batch: Batch, progress: float = 0.0) -> ObjectiveOutput:
        """Predict the teacher's frames where the student's input is masked."""
        features = scale_gradient(encoder.features(batch.wav, batch.lengths), self.settings.feature_grad)
        x = encoder.embed(features)
        targets = self.targets(x.detach(), batch.counts)[batch.mask]
        layers = encoder.normalise_last(encoder.contextualise(encoder.masked(x, batch.mask), batch.counts))
        predictions = self.project(layers[-1][batch.mask]).float()
        loss = (predictions - targets).square().sum() / predictions.shape[-1] ** 0.5
        stats = {
            f"{name} {what}": value
            for name, frames in (("target", targets), ("prediction", predictions.detach()))
            for what, value in _sums(frames).items()
        }
        return ObjectiveOutput({"regression": loss}, stats, layers)

    @torch.no_grad()
    def targets(self, x: Tensor, counts: Tensor) -> Tensor:
        """Return the targets (batch, frames, dim), float32, for the transformer's unmasked input."""
        real = valid_frames(counts, x.shape[1])
        inner: list[Tensor] = []
        self.teacher.network(x, None if bool(real.all()) else real, len(self.teacher.network.blocks), inner=inner)
        chosen = [normalised_over_time(frames.float(), real) for frames in inner[-self.settings.top_blocks :]]
        return torch.stack(chosen).mean(0)

    def after_step(self, encoder: SpeechEncoder, step: int, progress: float, stats: Mapping[str, Tensor]) -> None:
        """Let the teacher follow the student."""
        self.teacher.follow(encoder.transformer, annealed(*self.settings.decay, step, self.settings.decay_steps))

    def metrics(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the standard deviations of targets and predictions, averaged over the channels; near 0 in collapse."""
        metrics = {}
        for name in ("target", "prediction"):
            count, total, square = (stats[f"{name} {what}"] for what in ("count", "sum", "square"))
            variance = (square - total.square() / count.clamp(min=1)) / (count - 1).clamp(min=1)
            metrics[f"{name}_deviation"] = float((variance.clamp(min=0) + 1e-6).sqrt().mean())
        return metrics


def _sums(frames: Tensor) -> dict[str, Tensor]:
    """Return sufficient statistics of the variance of frames (frames, dim)."""
    count = torch.tensor(float(len(frames)), device=frames.device)
    return {"count": count, "sum": frames.sum(0), "square": frames.square().sum(0)}
