"""Short-time spectra of sound, and sound from them, with time before frequency: (batch, frames, bins).

Two ways to place n frames of n_fft samples, hop samples apart, on a wav:

    same      each frame's middle is the middle of its hop    |--hop--|--hop--|--hop--|     samples // hop frames
                                                              ^   x   ^   x   ^   x   ^
    center    each frame's middle is the start of its hop     x-------x-------x-------x     samples // hop + 1 frames

Sound comes back as frames * hop samples either way; with `center` the last hop lies behind the last sample of the wav.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["same", "center"]


def spectrum(wav: Tensor, window: Tensor, hop: int, padding: Padding = "same", edge: str = "reflect") -> Tensor:
    """Give the complex spectrum (batch, frames, bins) of a wav (batch, samples).

    Args:
        wav: (batch, samples), at least one hop long.
        window: (n_fft,).
        hop: samples from one frame to the next.
        padding: where the frames stand, see above.
        edge: what is heard beyond the ends: `reflect` (or silence, where the wav is too short for it) or `constant`.
    """
    before, after = _margins(len(window), hop, padding)
    mode = "constant" if wav.shape[-1] <= after else edge
    wav = F.pad(wav[:, None], (before, after), mode=mode)[:, 0]
    return torch.stft(wav, len(window), hop, window=window, center=False, return_complex=True).transpose(1, 2)


def sound(spectra: Tensor, window: Tensor, hop: int, padding: Padding = "same") -> Tensor:
    """Give the wav (batch, frames * hop) whose spectrum (batch, frames, bins) is nearest, by overlapping and adding."""
    count = spectra.shape[1]
    pieces = torch.fft.irfft(spectra, n=len(window)) * window
    before, _ = _margins(len(window), hop, padding)
    wav = _overlap_add(pieces, hop)
    weight = _overlap_add(window.square().expand(1, count, -1), hop)
    inside = slice(before, before + count * hop)
    return wav[:, inside] / weight[:, inside].clamp(min=1e-11)


def _margins(n_fft: int, hop: int, padding: Padding) -> tuple[int, int]:
    if padding == "center":
        return n_fft // 2, n_fft // 2
    return (n_fft - hop) // 2, (n_fft - hop + 1) // 2


def _overlap_add(pieces: Tensor, hop: int) -> Tensor:
    """Add pieces (batch, count, n_fft) that start every hop samples: (batch, at least (count - 1) * hop + n_fft)."""
    batch, count, n_fft = pieces.shape
    steps = -(-n_fft // hop)
    parts = F.pad(pieces, (0, steps * hop - n_fft)).view(batch, count, steps, hop)
    total = parts.new_zeros(batch, count + steps - 1, hop)
    for step in range(steps):
        total[:, step : step + count] += parts[:, :, step]
    return total.flatten(1)
