"""CTC: learn a text from frames without knowing where in them it is.

Graves, Fernandez, Gomez and Schmidhuber, 2006, "Connectionist Temporal Classification: Labelling Unsegmented Sequence
Data with Recurrent Neural Networks", ICML: every frame votes for a symbol or for the blank, symbol 0; a text's
likelihood sums over all ways to spread its symbols over the frames. Here sums, not means: who calls knows over how many
tokens, on how many machines, to divide.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss, log_softmax

BLANK = 0


class Ctc(nn.Module):
    """A linear head over an encoder's frames, and its loss.

    Args:
        dim: numbers in a frame.
        symbols: how many there are, with the blank.
        dropout: share of a frame's numbers that is dropped in training.
    """

    def __init__(self, dim: int, symbols: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dim, symbols)

    def forward(self, frames: Tensor, counts: Tensor, tokens: Tensor, token_counts: Tensor) -> Tensor:
        """Give the sum over clips of -log p(tokens | frames); clips that are not `usable` give 0.

        Args:
            frames: an encoder's (batch, time, dim).
            counts: how many of them are the clip's (batch,).
            tokens: its symbols, padded with 0 (batch, most tokens).
            token_counts: how many of them are the clip's (batch,).
        """
        kept = usable(counts, tokens, token_counts)
        # what is left out must not even meet the loss: infinities have gradients that are not numbers
        scores = self.scores(frames[kept]).transpose(0, 1)
        if not kept.any():
            return scores.sum()  # 0, with gradients of 0 for all weights
        return ctc_loss(
            scores, tokens[kept], counts[kept], token_counts[kept], BLANK, reduction="sum", zero_infinity=True
        )

    def scores(self, frames: Tensor) -> Tensor:
        """Give the log-probability of each symbol in each frame (batch, time, symbols), float32."""
        return log_softmax(self.linear(self.dropout(frames)), dim=-1, dtype=torch.float32)

    @torch.no_grad()
    def decode(self, frames: Tensor, counts: Tensor) -> list[list[int]]:
        """Give each clip's tokens: the best symbol of each frame, repeats joined, blanks dropped."""
        best = self.linear(frames).argmax(-1).tolist()
        return [_joined(row[:count]) for row, count in zip(best, counts.tolist(), strict=True)]


def usable(counts: Tensor, tokens: Tensor, token_counts: Tensor) -> Tensor:
    """Tell which clips have tokens, and frames enough for them (batch,): one each, and a blank between equal ones."""
    place = torch.arange(tokens.shape[1], device=tokens.device)
    repeats = (tokens[:, 1:] == tokens[:, :-1]) & (place[1:] < token_counts[:, None])
    return (token_counts > 0) & (token_counts + repeats.sum(1) <= counts)


def counted(counts: Tensor, tokens: Tensor, token_counts: Tensor) -> int:
    """Give how many tokens the loss is a sum over."""
    return int(token_counts[usable(counts, tokens, token_counts)].sum())


def edits(heard: list[int], said: list[int]) -> int:
    """Give how many insertions, deletions and replacements turn one into the other."""
    row = list(range(len(said) + 1))
    for i, token in enumerate(heard, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(said, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (token != other))
    return row[-1]


def error_rate(heard: list[list[int]], said: list[list[int]]) -> tuple[int, int]:
    """Give the number of edits over all clips, and of the tokens that were said; their quotient is the error rate."""
    errors = sum(edits(one, other) for one, other in zip(heard, said, strict=True))
    return errors, sum(map(len, said))


def _joined(symbols: list[int]) -> list[int]:
    return [
        symbol for symbol, last in zip(symbols, [BLANK, *symbols], strict=False) if symbol != BLANK and symbol != last
    ]
