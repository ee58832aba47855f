"""wav2vec 2.0: the masked frame's quantised latent, among those of other masked frames (Baevski et al., 2006.11477).

    front end --> mask --> transformer --> projection --> prediction of each masked frame
        `-----> Gumbel quantiser ---> projection --> its target, and 100 negatives of the same clip

Losses: InfoNCE over cosines / .1, a penalty on codes that are used too little, and one on large front-end features. The
diversity of the codes is that of one batch in one process, as published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.data.batch import Batch
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.frontend import valid_frames
from pretrain.encoder.quantisers import GumbelQuantiser, code_counts, code_perplexity, temperature_at
from pretrain.objectives.contrast import contrastive_logits, sample_negatives
from pretrain.objectives.masking import MaskSettings
from pretrain.objectives.protocol import Objective, ObjectiveOutput, scale_gradient


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2Settings(MaskSettings):
    """wav2vec 2.0's settings.

    Attributes:
        mask_probability: see `MaskSettings`; .65 masks about 49 %.
        target_dim: of predictions and projected targets; 256 in Base, 768 in Large.
        negatives: frames of the same clip that a target is told from.
        temperature: that cosines are divided by.
        codes: in each codebook.
        groups: number of codebooks.
        code_dim: of the quantised vectors; `target_dim` if 0.
        code_temperature: of the Gumbel softmax: at the start, at the end, and its decay from step to step.
        code_steps: of the published schedule, which a shorter training runs through as well.
        diversity_weight: of the penalty on unused codes.
        feature_weight: of the mean square of the front end's features.
        feature_grad: scale of the front end's gradients.
        dropout: on the latents that are quantised.
    """

    mask_probability: float = 0.65
    target_dim: int = 256
    negatives: int = 100
    temperature: float = 0.1
    codes: int = 320
    groups: int = 2
    code_dim: int = 0
    code_temperature: tuple[float, float, float] = (2.0, 0.5, 0.999995)
    code_steps: int = 400_000
    diversity_weight: float = 0.1
    feature_weight: float = 10.0
    feature_grad: float = 0.1
    dropout: float = 0.1
    needs_labels: ClassVar[bool] = False


class Wav2Vec2(Objective):
    """wav2vec 2.0's quantiser, projections and losses; see `Objective` for the arguments."""

    settings: Wav2Vec2Settings
    exported: ClassVar[Sequence[str]] = ("objective.quantiser", "objective.project", "objective.project_target")

    def add_heads(self, encoder: SpeechEncoder) -> None:
        """Create the loss weights, and the modules that are trained beside the encoder."""
        self.weights = {
            "contrastive": 1.0,
            "diversity": self.settings.diversity_weight,
            "features": self.settings.feature_weight,
        }
        code_dim = self.settings.code_dim or self.settings.target_dim
        self.quantiser = GumbelQuantiser(
            encoder.config.conv_dim, codes=self.settings.codes, groups=self.settings.groups, out=code_dim
        )
        self.project_target = nn.Linear(code_dim, self.settings.target_dim)
        self.project = nn.Linear(encoder.config.dim, self.settings.target_dim)

    def counts(self, batch: Batch) -> dict[str, int]:
        """Count masked frames, and all."""
        masked = int(batch.mask.sum())
        return {"contrastive": masked, "diversity": masked, "features": int(batch.counts.sum())}

    def forward(self, encoder: SpeechEncoder, batch: Batch, progress: float = 0.0) -> ObjectiveOutput:
        """Tell the target of each masked frame from those of others."""
        settings = self.settings
        features = scale_gradient(encoder.features(batch.wav, batch.lengths), settings.feature_grad)
        real = valid_frames(batch.counts, features.shape[1])
        penalty = (features.float().square().mean(-1) * real).sum()
        latents = encoder.feature_norm(features)[batch.mask]
        quantised = self.quantiser(
            F.dropout(latents, settings.dropout, self.training),
            temperature_at(progress, *settings.code_temperature, settings.code_steps),
        )
        layers = encoder.normalise_last(encoder.encode(features, batch.counts, batch.mask))
        loss, right = self._contrast(self.project(layers[-1][batch.mask]), quantised.vectors, batch.mask.sum(1))
        losses = {"contrastive": loss, "diversity": quantised.loss, "features": penalty}
        stats = {"right": torch.stack([right, right.new_tensor(len(latents))]), "codes": code_counts(quantised)}
        return ObjectiveOutput(losses, stats, layers)

    def _contrast(self, predictions: Tensor, vectors: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed loss, and how many predictions are right."""
        negatives = sample_negatives(counts, self.settings.negatives)
        targets = self.project_target(vectors)
        logits = contrastive_logits(predictions, targets, targets[negatives], self.settings.temperature)
        loss = F.cross_entropy(
            logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device), reduction="sum"
        )
        return loss, (logits.detach().argmax(1) == 0).sum()

    def metrics(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the accuracy, and the effective number of codes in all codebooks."""
        right, count = stats["right"].tolist()
        shares = stats["codes"].double() / stats["codes"].sum(-1, keepdim=True).clamp(min=1)
        return {"accuracy": right / max(count, 1), "code_perplexity": float(code_perplexity(shares))}
