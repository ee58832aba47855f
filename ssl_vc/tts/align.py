"""Alignment: which frames belong to which symbol, in order, none left out.

Kim, Kim, Kong and Yoon, 2020, "Glow-TTS: A Generative Flow for Text-to-Speech via Monotonic Alignment Search", arXiv
2005.11129: of all ways to spread symbols over frames, each symbol at least one frame, the one whose frames fit best.

    symbol 3 |          # # #|
    symbol 2 |      # #      |      frame by frame either on with the same symbol, or to the next one
    symbol 1 |# # #          |
             +--- frames ----+
"""

import torch
from torch import Tensor

NEVER = -1e9


@torch.no_grad()
def durations(fit: Tensor, symbols: Tensor, frames: Tensor) -> Tensor:
    """Give how many frames each symbol has (batch, most symbols); 0 behind the last one.

    Args:
        fit: how well a frame fits a symbol (batch, most symbols, most frames), larger is better.
        symbols: of each row (batch,), from 1 on.
        frames: of each row (batch,), at least as many as symbols.
    """
    if bool((symbols < 1).any()) or bool((frames < symbols).any()):
        raise ValueError("a row has fewer frames than symbols, or no symbols; each symbol needs one.")
    batch, most, time = fit.shape
    total = fit.new_full((batch, most), NEVER)
    total[:, 0] = 0
    stayed = torch.empty(time, batch, most, dtype=torch.bool, device=fit.device)
    for t, here in enumerate(fit.unbind(2)):
        moved = torch.cat([total.new_full((batch, 1), NEVER), total[:, :-1]], 1)
        if t == 0:
            moved = total.new_full((batch, most), NEVER)
        stayed[t] = total >= moved
        total = torch.where(stayed[t], total, moved) + here
        if t == 0:
            total[:, 1:] = NEVER
    counts = torch.zeros(batch, most, dtype=torch.int64, device=fit.device)
    at, rows = symbols - 1, torch.arange(batch, device=fit.device)
    for t in range(time - 1, -1, -1):
        inside = t < frames
        counts[rows, at] += inside
        at = torch.where(inside & ~stayed[t, rows, at], at - 1, at)
    return counts


def spread(symbols: Tensor, lengths: Tensor) -> Tensor:
    """Repeat each symbol's numbers (batch, symbols, dim) for its frames (batch, symbols): (batch, most frames, dim)."""
    ends = lengths.cumsum(1)
    at = torch.arange(int(ends[:, -1].max()), device=symbols.device)
    index = torch.searchsorted(ends, at.expand(len(symbols), -1).contiguous(), right=True)
    inside = index < symbols.shape[1]
    picked = symbols.gather(1, index.clamp(max=symbols.shape[1] - 1)[..., None].expand(-1, -1, symbols.shape[2]))
    return picked * inside[..., None]
