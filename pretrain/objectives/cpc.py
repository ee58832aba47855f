"""CPC: contrastive prediction of later front-end frames (van den Oord et al., 2018, arXiv 1807.03748).

    front end --> z_1 z_2 ... z_t  z_t+1 ... z_t+K
    recurrent     c_1 c_2 ... c_t    |         |
                               `--W_1'---W_K---'     each scores its frame and frames drawn from the same clip

The modified CPC of Riviere et al. (2020, arXiv 2002.02848) is a matter of settings: `predictor: transformer` here, and
`conv_norm: layer` and `context: lstm` in the encoder's shape. As in its code, a score is a mean over the channels and
the negatives of a frame serve all its steps; there they are drawn from a batch of one speaker, here from the same clip.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.data.batch import Batch
from pretrain.encoder import EncoderConfig, SpeechEncoder
from pretrain.encoder.context import Context
from pretrain.encoder.frontend import valid_frames
from pretrain.objectives.contrast import sample_negatives
from pretrain.objectives.future import FutureSettings, count_predicting, future_frames
from pretrain.objectives.protocol import Objective, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class CpcSettings(FutureSettings):
    """CPC's settings, beside those of all such methods.

    Attributes:
        predictor: `linear`, or `transformer`: one block and a linear layer for each step.
        heads: of that block.
        ffn_dim: width inside its feed-forward part.
        dropout: in that block.
    """

    negatives: int = 128
    predictor: str = "linear"
    heads: int = 8
    ffn_dim: int = 2048
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.predictor not in ("linear", "transformer"):
            raise ValueError(f"predictor is {self.predictor!r}; possible are linear, transformer.")


class Cpc(Objective):
    """CPC's predictors and loss; see `Objective` for the arguments."""

    settings: CpcSettings

    def add_heads(self, encoder: SpeechEncoder) -> None:
        """Create the loss weights, and the modules that are trained beside the encoder."""
        settings = self.settings
        self.weights = {"contrastive": 1.0}
        dim, out = encoder.config.dim, encoder.config.feature_dim
        self.blocks = nn.ModuleList(
            _causal_block(dim, settings) for _ in range(settings.steps if settings.predictor == "transformer" else 0)
        )
        self.predict = nn.ModuleList(nn.Linear(dim, out, bias=False) for _ in range(settings.steps))

    def counts(self, batch: Batch) -> dict[str, int]:
        """Count predictions."""
        return {"contrastive": count_predicting(batch.counts, self.settings.steps) * self.settings.steps}

    def forward(self, encoder: SpeechEncoder, batch: Batch, progress: float = 0.0) -> ObjectiveOutput:
        """Tell later frames from others of the same clip."""
        features = encoder.features(batch.wav, batch.lengths)
        layers = encoder.encode(features, batch.counts)
        real = valid_frames(batch.counts, features.shape[1])
        position, ahead = future_frames(batch.counts, self.settings.steps)
        frames = features[real]
        negatives = frames[sample_negatives(batch.counts, self.settings.negatives)[position]]
        predictions = self.predictions(layers[-1], real, position)
        logits = cpc_logits(predictions, frames[ahead], negatives)
        wanted = torch.zeros(logits.shape[:2], dtype=torch.long, device=logits.device)
        loss = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="sum")
        right = (logits.detach().argmax(-1) == 0).sum(0)
        stats = {"right": torch.cat([right, right.new_tensor([len(position)])])}
        return ObjectiveOutput({"contrastive": loss}, stats, layers)

    def predictions(self, context: Tensor, real: Tensor, position: Tensor) -> Tensor:
        """Return the predictions of each step (predicting, steps, feature_dim) from context (batch, frames, dim)."""
        inputs = [block(context, real, 1)[-1] for block in self.blocks] or [context] * self.settings.steps
        chosen = (of[real][position] for of in inputs)
        return torch.stack([predict(of) for predict, of in zip(self.predict, chosen, strict=True)], 1)

    def metrics(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Return how often the later frame is the likeliest: of all steps, and of the first."""
        *right, count = stats["right"].tolist()
        return {"accuracy": sum(right) / max(count * len(right), 1), "accuracy_1": right[0] / max(count, 1)}


def cpc_logits(predictions: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """Return the scores (predicting, steps, 1 + number) of the true frames and of negatives.

    Args:
        predictions: (predicting, steps, dim).
        targets: (predicting, steps, dim).
        negatives: of each frame, for all steps (predicting, number, dim).
    """
    with torch.autocast(predictions.device.type, enabled=False):
        predictions = predictions.float() / predictions.shape[-1]
        true = (predictions * targets.float()).sum(-1, keepdim=True)
        return torch.cat([true, predictions @ negatives.float().transpose(1, 2)], -1)


def _causal_block(dim: int, settings: CpcSettings) -> Context:
    """Return one transformer block that sees no later frame."""
    shape = EncoderConfig(
        frontend="stack",
        causal=True,
        position="none",
        dim=dim,
        depth=1,
        heads=settings.heads,
        ffn_dim=settings.ffn_dim,
        dropout=settings.dropout,
        attention_dropout=settings.dropout,
        layer_drop=0.0,
    )
    return Context(shape)
