"""Monotonic alignment search: which frames belong to which symbol, in order, without gaps.

Kim, Kim, Kong and Yoon, 2020, "Glow-TTS: A Generative Flow for Text-to-Speech via Monotonic Alignment Search", arXiv
2005.11129: dynamic programming over all monotonic alignments, at least one frame per symbol, for the highest score.

    symbol 3 |          # # #|
    symbol 2 |      # #      |      each frame stays at the symbol of the one before, or moves to the next symbol
    symbol 1 |# # #          |
             +--- frames ----+
"""

import torch
from torch import Tensor

IMPOSSIBLE = -1e9


@torch.no_grad()
def monotonic_alignment_search(scores: Tensor, symbol_counts: Tensor, frame_counts: Tensor) -> Tensor:
    """Returns the duration of each symbol in frames (batch, max symbols), 0 in the padding.

    Args:
        scores: log-likelihood of each frame under each symbol, up to a constant (batch, max symbols, max frames).
        symbol_counts: symbols in each row (batch,), at least 1.
        frame_counts: frames in each row (batch,), at least as many as symbols.
    """
    if bool((symbol_counts < 1).any()) or bool((frame_counts < symbol_counts).any()):
        raise ValueError("a row has no symbols, or fewer frames than symbols; each symbol takes at least one frame.")
    stayed = _best_predecessors(scores)
    batch, max_symbols, max_frames = scores.shape
    durations = torch.zeros(batch, max_symbols, dtype=torch.int64, device=scores.device)
    symbol, rows = symbol_counts - 1, torch.arange(batch, device=scores.device)
    for t in range(max_frames - 1, -1, -1):
        inside = t < frame_counts
        durations[rows, symbol] += inside
        symbol = torch.where(inside & ~stayed[t, rows, symbol], symbol - 1, symbol)
    return durations


def _best_predecessors(scores: Tensor) -> Tensor:
    """Returns whether the best path to each cell (frames, batch, symbols) stayed at its symbol."""
    batch, max_symbols, max_frames = scores.shape
    total = scores.new_full((batch, max_symbols), IMPOSSIBLE)
    total[:, 0] = 0
    stayed = torch.empty(max_frames, batch, max_symbols, dtype=torch.bool, device=scores.device)
    for t, score in enumerate(scores.unbind(2)):
        moved = torch.cat([total.new_full((batch, 1), IMPOSSIBLE), total[:, :-1]], 1)
        if t == 0:
            moved = total.new_full((batch, max_symbols), IMPOSSIBLE)
        stayed[t] = total >= moved
        total = torch.where(stayed[t], total, moved) + score
        if t == 0:
            total[:, 1:] = IMPOSSIBLE
    return stayed
