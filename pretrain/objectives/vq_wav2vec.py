"""vq-wav2vec: wav2vec of quantised frames (Baevski, Schneider and Auli, 2020, arXiv 1910.05453).

front end --> quantiser (the encoder's: Gumbel or k-means) --> vectors of codes --> causal convolutions
                                                                    `--- predicted --------'
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pretrain.data.batch import Batch
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.frontend import valid_frames
from pretrain.encoder.quantisers import Quantiser, code_counts, code_perplexity, temperature_at
from pretrain.objectives.protocol import ObjectiveOutput
from pretrain.objectives.wav2vec import Wav2Vec, Wav2VecSettings


@dataclass(frozen=True, kw_only=True)
class VqWav2VecSettings(Wav2VecSettings):
    """vq-wav2vec's settings, beside those of wav2vec.

    Attributes:
        code_temperature: of a Gumbel quantiser: at the start, at the end, and its decay from step to step.
        code_steps: of the published schedule, which a shorter training runs through as well.
        code_weight: of the quantiser's own loss: of unused codes (Gumbel), or of distances to the codes (k-means).
    """

    code_temperature: tuple[float, float, float] = (2.0, 0.5, 0.999995)
    code_steps: int = 400_000
    code_weight: float = 1.0
    needs: ClassVar[Mapping[str, Sequence[object]]] = {"causal": (True,), "quantiser": ("gumbel", "kmeans")}


class VqWav2Vec(Wav2Vec):
    """vq-wav2vec's losses; see `Objective` for the arguments."""

    settings: VqWav2VecSettings
    exported: ClassVar[Sequence[str]] = ("encoder.quantiser",)

    def add_heads(self, encoder: SpeechEncoder) -> None:
        """Create the loss weights, and the modules that are trained beside the encoder."""
        super().add_heads(encoder)
        self.weights = {**self.weights, "codes": self.settings.code_weight}

    def counts(self, batch: Batch) -> dict[str, int]:
        """Count the scores, and all frames."""
        return {**super().counts(batch), "codes": int(batch.counts.sum())}

    def forward(self, encoder: SpeechEncoder, batch: Batch, progress: float = 0.0) -> ObjectiveOutput:
        """Tell later quantised frames from others of the same clip."""
        features = encoder.features(batch.wav, batch.lengths)
        real = valid_frames(batch.counts, features.shape[1])
        quantiser: Quantiser = encoder.quantiser  # type: ignore[assignment]  # it needs one
        temperature = temperature_at(progress, *self.settings.code_temperature, self.settings.code_steps)
        quantised = quantiser(encoder.feature_norm(features[real]), temperature)
        vectors = quantised.vectors.to(features.dtype)
        inputs = features.new_zeros(features.shape).masked_scatter(real[:, :, None], vectors)
        layers = encoder.contextualise(encoder.project_dropout(encoder.project(inputs)), batch.counts)
        loss, right = self.contrast(layers[-1][real], quantised.vectors, batch.counts)
        stats = {"right": right, "codes": code_counts(quantised)}
        return ObjectiveOutput({"contrastive": loss, "codes": quantised.loss}, stats, layers)

    def metrics(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Return how often the later frame scores best, and the effective number of codes in all codebooks."""
        shares = stats["codes"].double() / stats["codes"].sum(-1, keepdim=True).clamp(min=1)
        return {**super().metrics(stats), "code_perplexity": float(code_perplexity(shares))}
