"""What is trained: the encoder, the objective and an optional CTC head in one module, so that DDP wraps them all."""

import torch
from torch import Tensor, nn

from pretrain.data.batch import Batch
from pretrain.encoder import SpeechEncoder
from pretrain.objectives.ctc import CtcHead, count_errors, count_tokens
from pretrain.objectives.protocol import Objective

Sums = dict[str, Tensor]


class PretrainModel(nn.Module):
    """An encoder with its objective.

    Args:
        encoder: what is kept in the end.
        objective: the pretraining loss.
        ctc_head: an auxiliary CTC loss, if any.
        layer: the layer that the CTC head reads; the last if None.
    """

    def __init__(
        self, encoder: SpeechEncoder, objective: Objective, ctc_head: CtcHead | None, layer: int | None
    ) -> None:
        super().__init__()
        self.encoder, self.objective, self.ctc_head, self.layer = encoder, objective, ctc_head, layer

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return the denominator of each loss."""
        counts = self.objective.counts(batch)
        if self.ctc_head is not None:
            counts["text"] = count_tokens(batch.counts, batch.tokens, batch.token_counts)
        return counts

    def forward(self, batch: Batch, progress: float = 0.0) -> tuple[Sums, Sums]:
        """Return the summed losses and statistics."""
        return self.outputs(batch, progress)[:2]

    def outputs(self, batch: Batch, progress: float) -> tuple[Sums, Sums, Tensor]:
        """Return the summed losses and statistics, and the frames of the encoder's last layer."""
        losses, stats, layers = self.objective(self.encoder, batch, progress)
        if self.ctc_head is not None:
            frames = layers[-1 if self.layer is None else self.layer]
            losses["text"] = self.ctc_head(frames, batch.counts, batch.tokens, batch.token_counts)
            if not self.training:
                stats["text errors"] = self._text_errors(self.ctc_head, frames, batch)
        return losses, stats, layers[-1]

    @staticmethod
    def _text_errors(ctc_head: CtcHead, frames: Tensor, batch: Batch) -> Tensor:
        """Return the edits and the reference tokens (2,) of the clips with a transcript."""
        references = [row[:count] for row, count in zip(batch.tokens.tolist(), batch.token_counts, strict=True)]
        pairs = zip(ctc_head.decode(frames, batch.counts), references, strict=True)
        known = [(hypothesis, reference) for hypothesis, reference in pairs if reference]
        errors = count_errors([hypothesis for hypothesis, _ in known], [reference for _, reference in known])
        return torch.tensor(errors, device=frames.device)
