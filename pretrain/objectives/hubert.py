"""HuBERT: masked prediction of cluster labels (Hsu et al. 2021, 2106.07447).

Spans of frames are masked, and the encoder predicts from their context which cluster of MFCC, or of an earlier
encoder's layer, each belongs to. Loss: cross-entropy over the masked frames, of cosines / 0.1 to a learned
embedding per cluster, and a penalty on large front-end features. Here the clips of a batch differ in length, so each is
masked in proportion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.data.batch import Batch
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.frontend import valid_frames
from pretrain.objectives.masking import MaskSettings
from pretrain.objectives.protocol import Objective, ObjectiveOutput, scale_gradient

LONGEST_CHUNK = 50  # frames, 1 s


@dataclass(frozen=True, kw_only=True)
class HubertSettings(MaskSettings):
    """HuBERT's settings, beside those of its masks.

    Attributes:
        head_dim: of projected frames and cluster embeddings; 256 in Base, 768 in Large.
        temperature: that cosines are divided by.
        masked_weight: of the loss on masked frames.
        seen_weight: of the same loss on unmasked frames: 0 as published; above 0 it helps when there is little speech.
        feature_weight: of the mean square of the front end's features.
        feature_grad: scale of the front end's gradients; .1 in Base, 1 in Large.
        layer: that predicts; the last if None.
        chunk_probability: of a batch to be encoded in chunks of a random length, up to `LONGEST_CHUNK` frames, beyond
            whose end a frame sees nothing, so that the encoder also works with little lookahead.
    """

    head_dim: int = 256
    temperature: float = 0.1
    masked_weight: float = 1.0
    seen_weight: float = 0.0
    feature_weight: float = 10.0
    feature_grad: float = 1.0
    layer: int | None = None
    chunk_probability: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.chunk_probability <= 1:
            raise ValueError(f"chunk_probability is {self.chunk_probability}; it is a probability, 0 to 1.")
        if self.head_dim < 1 or self.temperature <= 0:
            raise ValueError(f"head_dim is {self.head_dim} and temperature {self.temperature}; both must be above 0.")


def cosine_logits(frames: Tensor, clusters: Tensor, temperature: float) -> Tensor:
    """Return scaled cosines (frames, clusters) of frames (frames, dim) and embeddings (clusters, dim), in float32."""
    with torch.autocast(frames.device.type, enabled=False):
        return F.normalize(frames.float(), dim=-1) @ F.normalize(clusters.float(), dim=-1).T / temperature


class Hubert(Objective):
    """HuBERT's prediction heads and losses.

    Args:
        settings: of HuBERT.
        encoder: that is trained.
        clusters: in each label set.
        gradient_scales: of the encoder's gradients from each set: below 0 is gradient reversal, so the encoder learns
            to remove what the head predicts (Ganin and Lempitsky, 2015); 1 if empty.
    """

    def __init__(
        self,
        settings: HubertSettings,
        encoder: SpeechEncoder,
        clusters: Sequence[int] = (),
        gradient_scales: Sequence[float] = (),
    ) -> None:
        super().__init__(settings, encoder, clusters, gradient_scales)
        self.gradient_scales = tuple(gradient_scales) or (1.0,) * len(clusters)
        self.weights = {
            "masked": settings.masked_weight,
            "seen": settings.seen_weight,
            "features": settings.feature_weight,
        }
        self.project = nn.ModuleList(nn.Linear(encoder.config.dim, settings.head_dim) for _ in clusters)
        self.clusters = nn.ParameterList(nn.Parameter(torch.empty(n, settings.head_dim).uniform_()) for n in clusters)

    def counts(self, batch: Batch) -> dict[str, int]:
        """Count masked frames, unmasked ones, and all."""
        masked, frames = int(batch.mask.sum()), int(batch.counts.sum())
        return {"masked": masked, "seen": frames - masked, "features": frames}

    def forward(self, encoder: SpeechEncoder, batch: Batch, progress: float = 0.0) -> ObjectiveOutput:
        """Predict the labels of the masked frames."""
        settings = self.settings
        features = scale_gradient(encoder.features(batch.wav, batch.lengths), settings.feature_grad)
        real = valid_frames(batch.counts, features.shape[1])
        penalty = (features.float().square().mean(-1) * real).sum()
        mask = batch.mask if settings.mask_probability else None
        layers = encoder.normalise_last(encoder.encode(features, batch.counts, mask, chunk=self._draw_chunk()))
        frames = layers[-1 if settings.layer is None else settings.layer]
        loss, stats = self._predict(frames, batch.mask, batch.labels, "masked")
        seen = loss.new_zeros(())
        if settings.seen_weight or not self.training:
            seen, more = self._predict(frames, real & ~batch.mask, batch.labels, "seen")
            stats |= more
        return ObjectiveOutput({"masked": loss, "seen": seen, "features": penalty}, stats, layers)

    def _draw_chunk(self) -> int | None:
        """Return a chunk's frames, uniform on a logarithmic scale from 2 to `LONGEST_CHUNK`; None for no chunks."""
        probability = self.settings.chunk_probability
        if not (self.training and probability and torch.rand(()) < probability):
            return None
        return round(2 * (LONGEST_CHUNK / 2) ** float(torch.rand(())))

    def _predict(self, frames: Tensor, where: Tensor, labels: Tensor, name: str) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = frames[where]
        total, stats = frames.new_zeros((), dtype=torch.float32), {}
        for of, (project, clusters) in enumerate(zip(self.project, self.clusters, strict=True)):
            known = labels[of][where] >= 0
            targets = labels[of][where][known]
            inputs = scale_gradient(chosen[known], self.gradient_scales[of])
            logits = cosine_logits(project(inputs), clusters, self.settings.temperature)
            total = total + F.cross_entropy(logits, targets, reduction="sum")
            predicted = logits.detach().argmax(-1)
            stats[f"{name} {of}"] = torch.stack([(predicted == targets).sum(), targets.new_tensor(len(targets))])
            if not self.training and name == "masked":
                stats[f"targets {of}"] = torch.bincount(targets, minlength=len(clusters))
                stats[f"predicted {of}"] = torch.bincount(predicted, minlength=len(clusters))
        return total, stats

    def metrics(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Return accuracies, the perplexity of labels and predictions, and how many clusters are never predicted."""
        metrics: dict[str, float] = {}
        for of in range(len(self.clusters)):
            suffix = f"_{of}" if len(self.clusters) > 1 else ""
            for name, metric in (("masked", "accuracy"), ("seen", "seen_accuracy")):
                if f"{name} {of}" in stats:
                    right, count = stats[f"{name} {of}"].tolist()
                    metrics[metric + suffix] = right / max(count, 1)
            if f"targets {of}" in stats:
                targets, predicted = stats[f"targets {of}"], stats[f"predicted {of}"]
                metrics["label_perplexity" + suffix] = perplexity(targets)
                metrics["guess_perplexity" + suffix] = perplexity(predicted)
                metrics["dead" + suffix] = float(((predicted == 0) & (targets > 0)).sum())
        return metrics


def perplexity(counts: Tensor) -> float:
    """Return exp of the entropy of counts (clusters,): the effective number of clusters."""
    share = counts.double() / counts.sum().clamp(min=1)
    return float(torch.special.entr(share).sum().exp())
