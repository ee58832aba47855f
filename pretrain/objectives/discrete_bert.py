"""DiscreteBERT: masked prediction of codes, from codes (Baevski, Auli and Mohamed, 2019, arXiv 1911.03912).

    front end --> the encoder's quantiser --> codes --> vectors --> mask --> transformer --> softmax of each codebook
    (trained before, as by vq-wav2vec)          `--------- the masked frames' labels --------------'

Front end and quantiser stay as they are: `start: previous:codes` takes them over from an earlier iteration. Each
codebook has its own softmax, where the paper has one for all combinations that occur.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.data.batch import Batch
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.quantisers import Quantiser, code_perplexity
from pretrain.objectives.masking import MaskSettings
from pretrain.objectives.protocol import Objective, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class DiscreteBertSettings(MaskSettings):
    """DiscreteBERT's settings.

    Attributes:
        mask_probability: see `MaskSettings`; spans begin at 5 % of vq-wav2vec's codes, of 10 ms.
        mask_length: frames in a span: 100 ms.
    """

    mask_probability: float = 0.5
    mask_length: int = 5
    needs_labels: ClassVar[bool] = False
    needs: ClassVar[Mapping[str, Sequence[object]]] = {"quantiser": ("gumbel", "kmeans"), "causal": (False,)}


class DiscreteBert(Objective):
    """DiscreteBERT's softmax layers; see `Objective` for the arguments."""

    settings: DiscreteBertSettings
    exported: ClassVar[Sequence[str]] = ("encoder.quantiser",)

    def add_heads(self, encoder: SpeechEncoder) -> None:
        """Create the loss weights, and the modules that are trained beside the encoder."""
        self.weights = {"masked": 1.0}
        self.sizes = encoder.config.code_groups, encoder.config.codes
        self.predict = nn.Linear(encoder.config.dim, self.sizes[0] * self.sizes[1])

    def counts(self, batch: Batch) -> dict[str, int]:
        """Count masked frames."""
        return {"masked": int(batch.mask.sum())}

    def forward(self, encoder: SpeechEncoder, batch: Batch, progress: float = 0.0) -> ObjectiveOutput:
        """Predict the codes of the masked frames."""
        quantiser: Quantiser = encoder.quantiser  # type: ignore[assignment]  # it needs one
        with torch.no_grad():
            features = encoder.features(batch.wav, batch.lengths)
            codes = quantiser.codes(encoder.feature_norm(features))
            vectors = quantiser.vectors(codes)
        x = encoder.masked(encoder.project_dropout(encoder.project(vectors)), batch.mask)
        layers = encoder.normalise_last(encoder.contextualise(x, batch.counts))
        logits = self.predict(layers[-1][batch.mask]).unflatten(1, self.sizes).float()
        targets = codes[batch.mask]
        loss = F.cross_entropy(logits.transpose(1, 2), targets, reduction="sum") / self.sizes[0]
        right = (logits.detach().argmax(-1) == targets).sum()
        stats = {
            "right": torch.stack([right, right.new_tensor(targets.numel())]),
            "labels": F.one_hot(targets, self.sizes[1]).sum(0),
        }
        return ObjectiveOutput({"masked": loss}, stats, layers)

    def metrics(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the accuracy, and the effective number of codes in all codebooks."""
        right, count = stats["right"].tolist()
        shares = stats["labels"].double() / stats["labels"].sum(-1, keepdim=True).clamp(min=1)
        return {"accuracy": right / max(count, 1), "code_perplexity": float(code_perplexity(shares))}
