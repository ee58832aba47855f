"""What is trained: the encoder, the objective, and CTC beside it, as one module that processes share."""

import torch
from torch import Tensor, nn

from pretrain.data.batch import Batch
from pretrain.encoder import SpeechEncoder
from pretrain.objectives.ctc import Ctc, counted, error_rate
from pretrain.objectives.protocol import Objective

Sums = dict[str, Tensor]


class Learner(nn.Module):
    """The encoder and what it learns with.

    Args:
        encoder: what is kept in the end.
        objective: what it learns by.
        speller: CTC beside it, if any.
        layer: whose frames the speller reads; the last if None.
    """

    def __init__(self, encoder: SpeechEncoder, objective: Objective, speller: Ctc | None, layer: int | None) -> None:
        super().__init__()
        self.encoder, self.objective, self.speller, self.layer = encoder, objective, speller, layer

    def counts(self, batch: Batch) -> dict[str, int]:
        """Say what each loss is to be divided by."""
        counts = self.objective.counts(batch)
        if self.speller is not None:
            counts["text"] = counted(batch.counts, batch.tokens, batch.token_counts)
        return counts

    def forward(self, batch: Batch) -> tuple[Sums, Sums]:
        """Give sums of losses, and tallies."""
        losses, tallies, layers = self.objective(self.encoder, batch)
        if self.speller is not None:
            frames = layers[-1 if self.layer is None else self.layer]
            losses["text"] = self.speller(frames, batch.counts, batch.tokens, batch.token_counts)
            if not self.training:
                said = [row[:count] for row, count in zip(batch.tokens.tolist(), batch.token_counts, strict=True)]
                heard = self.speller.decode(frames, batch.counts)
                known = [(mine, theirs) for mine, theirs in zip(heard, said, strict=True) if theirs]
                edits = error_rate([mine for mine, _ in known], [theirs for _, theirs in known])
                tallies["text errors"] = torch.tensor(edits, device=frames.device)
        return losses, tallies
