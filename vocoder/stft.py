"""STFT and its inverse, with time before frequency: (batch, frames, bins).

Two ways to align frames of n_fft samples, hop samples apart, with a waveform:

    same      frames are centred on the middle of their hop   |--hop--|--hop--|--hop--|     samples // hop frames
                                                              ^   x   ^   x   ^   x   ^
    center    frames are centred on the start of their hop    x-------x-------x-------x     samples // hop + 1 frames

The inverse returns frames * hop samples either way; with `center` the last hop extends past the end of the waveform.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["same", "center"]


def stft(wav: Tensor, window: Tensor, hop: int, padding: Padding = "same", pad_mode: str = "reflect") -> Tensor:
    """Returns the complex spectrogram (batch, frames, bins) of a waveform.

    Args:
        wav: (batch, samples), at least one hop long.
        window: (n_fft,).
        hop: samples from one frame to the next.
        padding: how frames are aligned, see above.
        pad_mode: `constant` (zeros), or `reflect`, which falls back to zeros where the waveform is too short.
    """
    before, after = _margins(len(window), hop, padding)
    mode = "constant" if wav.shape[-1] <= after else pad_mode
    wav = F.pad(wav[:, None], (before, after), mode=mode)[:, 0]
    return torch.stft(wav, len(window), hop, window=window, center=False, return_complex=True).transpose(1, 2)


def istft(spectra: Tensor, window: Tensor, hop: int, padding: Padding = "same") -> Tensor:
    """Returns the waveform (batch, frames * hop) closest to a spectrogram (batch, frames, bins), by overlap-add."""
    count = spectra.shape[1]
    frames = torch.fft.irfft(spectra, n=len(window)) * window
    before, _ = _margins(len(window), hop, padding)
    wav = _overlap_add(frames, hop)
    weight = _overlap_add(window.square().expand(1, count, -1), hop)
    inside = slice(before, before + count * hop)
    return wav[:, inside] / weight[:, inside].clamp(min=1e-11)


def _margins(n_fft: int, hop: int, padding: Padding) -> tuple[int, int]:
    if padding == "center":
        return n_fft // 2, n_fft // 2
    return (n_fft - hop) // 2, (n_fft - hop + 1) // 2


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Add frames (batch, count, n_fft) that start every hop samples: (batch, at least (count - 1) * hop + n_fft)."""
    batch, count, n_fft = frames.shape
    steps = -(-n_fft // hop)
    parts = F.pad(frames, (0, steps * hop - n_fft)).view(batch, count, steps, hop)
    total = parts.new_zeros(batch, count + steps - 1, hop)
    for step in range(steps):
        total[:, step : step + count] += parts[:, :, step]
    return total.flatten(1)
