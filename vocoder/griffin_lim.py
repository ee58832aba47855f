"""Griffin-Lim: iterative phase reconstruction from a magnitude spectrogram.

Griffin and Lim, 1984; the momentum is that of Perraudin, Balazs and Søndergaard, 2013 ("A fast Griffin-Lim algorithm").
It starts from phases propagated along spectral peaks (Beauregard, Harish and Wyse, 2015, "Single pass spectrogram
inversion"), which converge faster than random ones and are deterministic. It has no weights, and is the baseline for
every other vocoder.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vocoder.mel import Mel, Mfcc
from vocoder.protocol import generate_by_length
from vocoder.stft import Padding, istft, stft


@torch.no_grad()
def griffin_lim(
    magnitude: Tensor,
    hop: int,
    padding: Padding = "same",
    *,
    iterations: int = 32,
    momentum: float = 0.99,
    pad_mode: str = "reflect",
) -> Tensor:
    """Returns a waveform (batch, frames * hop) for a magnitude spectrogram.

    Args:
        magnitude: (batch, frames, bins), computed with a periodic Hann window of 2 * (bins - 1) samples.
        hop: samples from one frame to the next.
        padding: how frames are aligned, see `vocoder.stft`.
        iterations: number of iterations.
        momentum: 0 is the classic algorithm.
        pad_mode: see `vocoder.stft.stft`.
    """
    frames = magnitude.shape[1]
    window = torch.hann_window(2 * (magnitude.shape[2] - 1), device=magnitude.device)
    wav = istft(torch.polar(magnitude, initial_phase(magnitude, hop)), window, hop, padding)
    previous = torch.zeros_like(magnitude, dtype=torch.complex64)
    for _ in range(iterations):
        rebuilt = stft(wav, window, hop, padding, pad_mode)[:, :frames]
        accelerated = torch.lerp(previous, rebuilt, 1 + momentum)
        previous = rebuilt
        wav = istft(accelerated.mul_(magnitude / accelerated.abs().clamp_(min=1e-12)), window, hop, padding)
    return wav


def initial_phase(magnitude: Tensor, hop: int) -> Tensor:
    """Estimate phases (batch, frames, bins): every bin advances at the frequency of its nearest peak."""
    bins = magnitude.shape[2]
    index = torch.arange(bins, device=magnitude.device, dtype=torch.float32)
    left, right = F.pad(magnitude, (1, -1)), F.pad(magnitude, (-1, 1))
    peak = (magnitude > left) & (magnitude >= right)
    low, top, high = (part.clamp(min=1e-9).log() for part in (left, magnitude, right))
    offset = (0.5 * (low - high) / (low - 2 * top + high).clamp(max=-1e-9)).clamp(-0.5, 0.5)  # of a parabola's top
    below = torch.where(peak, index, -bins).cummax(-1).values
    above = torch.where(peak, index, 2 * bins).flip(-1).cummin(-1).values.flip(-1)
    nearest = torch.where(index - below <= above - index, below, above).clamp(0, bins - 1).long()
    frequency = (nearest + offset.gather(-1, nearest)) / (2 * (bins - 1))  # in cycles per sample
    cycles = (frequency.double() * hop).cumsum(1) % 1.0 + 0.5 * index  # a peak's phase is that at the frame's centre
    return (2 * torch.pi * cycles).float()


def spectral_convergence(wav: Tensor, magnitude: Tensor, hop: int, padding: Padding = "same") -> float:
    """Returns the relative error of a waveform's magnitudes (batch, samples) to the target (batch, frames, bins)."""
    window = torch.hann_window(2 * (magnitude.shape[2] - 1), device=wav.device)
    rebuilt = stft(wav, window, hop, padding)[:, : magnitude.shape[1]].abs()
    return float(torch.linalg.vector_norm(rebuilt - magnitude) / torch.linalg.vector_norm(magnitude))


class GriffinLim(nn.Module):
    """Vocoder for mel spectrograms and MFCCs: (batch, frames, dim) to (batch, frames * hop_length).

    Phases are estimated for whole clips, so memory grows with length: about 25 MB per second at 16 kHz.

    Args:
        features: the `Mel` or `Mfcc` that computes the frames.
        iterations: number of iterations.
        momentum: of the fast algorithm.
    """

    def __init__(self, features: Mel | Mfcc | None = None, iterations: int = 32, momentum: float = 0.99) -> None:
        super().__init__()
        self.features = Mel() if features is None else features
        self.iterations, self.momentum = iterations, momentum
        config = self.features.config
        self.dim, self.sample_rate, self.hop_length = self.features.dim, config.sample_rate, config.hop_length

    @property
    def reads(self) -> dict[str, Any]:
        """The input features."""
        return self.features.reads

    @property
    def filters(self) -> Tensor:
        """The mel filters (bands, bins) beneath the frames."""
        return self.features.mel.filters if isinstance(self.features, Mfcc) else self.features.filters

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Returns waveforms (batch, frames * hop_length) for frames (batch, frames, dim)."""
        return generate_by_length(self, self._generate, frames, lengths)

    def _generate(self, frames: Tensor) -> Tensor:
        config = self.features.config
        log_mel = self.features.inverse(frames) if isinstance(self.features, Mfcc) else frames
        magnitude = self.magnitude(log_mel.float().exp())
        return griffin_lim(
            magnitude, config.hop_length, config.padding, iterations=self.iterations, momentum=self.momentum
        )

    def magnitude(self, mel: Tensor, steps: int = 64) -> Tensor:
        """Returns non-negative magnitudes (batch, frames, bins) whose mel spectrogram is `mel` (batch, frames, bands).

        Lee and Seung's multiplicative updates (2001), which stay positive and need no step size.
        """
        target = mel @ self.filters
        gram = self.filters.T @ self.filters
        magnitude = target / gram.sum(0).clamp(min=1e-12)
        for _ in range(steps):
            magnitude = magnitude * target / (magnitude @ gram).clamp(min=1e-12)
        return magnitude
