"""CTC: predict a transcript from frames, without an alignment.

Graves, Fernandez, Gomez and Schmidhuber, 2006, "Connectionist Temporal Classification: Labelling Unsegmented Sequence
Data with Recurrent Neural Networks", ICML: every frame predicts a symbol or the blank, symbol 0; the
likelihood of a transcript sums over all its alignments. The loss is a sum, since only the trainer knows the number of
tokens over all processes.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss, log_softmax

BLANK = 0


class CtcHead(nn.Module):
    """A linear CTC head.

    Args:
        dim: of the frames.
        symbols: their number, including the blank.
        dropout: on the frames, in training.
    """

    def __init__(self, dim: int, symbols: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dim, symbols)

    def forward(self, frames: Tensor, counts: Tensor, tokens: Tensor, token_counts: Tensor) -> Tensor:
        """Return the sum over clips of -log p(tokens | frames); clips that are not `feasible` contribute 0.

        Args:
            frames: of an encoder (batch, time, dim).
            counts: frames of each clip (batch,).
            tokens: of each clip, padded with 0 (batch, max tokens).
            token_counts: tokens of each clip (batch,).
        """
        kept = feasible(counts, tokens, token_counts)
        # infeasible clips are removed before the loss: infinities would have NaN gradients
        scores = self.scores(frames[kept]).transpose(0, 1)
        if not kept.any():
            return scores.sum()  # 0, with gradients of 0 for all weights
        return ctc_loss(
            scores, tokens[kept], counts[kept], token_counts[kept], BLANK, reduction="sum", zero_infinity=True
        )

    def scores(self, frames: Tensor) -> Tensor:
        """Return the log-probabilities of the symbols (batch, time, symbols), float32."""
        return log_softmax(self.linear(self.dropout(frames)), dim=-1, dtype=torch.float32)

    @torch.no_grad()
    def decode(self, frames: Tensor, counts: Tensor) -> list[list[int]]:
        """Return each clip's tokens by greedy decoding: best symbols, with repeats merged and blanks dropped."""
        best = self.linear(frames).argmax(-1).tolist()
        return [_collapse(row[:count]) for row, count in zip(best, counts.tolist(), strict=True)]


def feasible(counts: Tensor, tokens: Tensor, token_counts: Tensor) -> Tensor:
    """Return which clips have tokens and enough frames (batch,): one per token, and a blank between equal ones."""
    place = torch.arange(tokens.shape[1], device=tokens.device)
    repeats = (tokens[:, 1:] == tokens[:, :-1]) & (place[1:] < token_counts[:, None])
    return (token_counts > 0) & (token_counts + repeats.sum(1) <= counts)


def count_tokens(counts: Tensor, tokens: Tensor, token_counts: Tensor) -> int:
    """Count the tokens of the clips that contribute to the loss."""
    return int(token_counts[feasible(counts, tokens, token_counts)].sum())


def edit_distance(hypothesis: list[int], reference: list[int]) -> int:
    """Return the minimum number of insertions, deletions and substitutions between two token sequences."""
    row = list(range(len(reference) + 1))
    for i, token in enumerate(hypothesis, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(reference, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (token != other))
    return row[-1]


def count_errors(hypotheses: list[list[int]], references: list[list[int]]) -> tuple[int, int]:
    """Return the total edit distance and the number of reference tokens; their ratio is the error rate."""
    errors = sum(edit_distance(*pair) for pair in zip(hypotheses, references, strict=True))
    return errors, sum(map(len, references))


def _collapse(symbols: list[int]) -> list[int]:
    return [
        symbol for symbol, last in zip(symbols, [BLANK, *symbols], strict=False) if symbol != BLANK and symbol != last
    ]
