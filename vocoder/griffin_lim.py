"""Griffin-Lim: find the sound whose magnitude spectrum is the one given, by going back and forth.

Griffin and Lim, 1984; the momentum is that of Perraudin, Balazs and Søndergaard, 2013 ("A fast Griffin-Lim algorithm").
It starts from phases that follow the spectral peaks from frame to frame (Beauregard, Harish and Wyse, 2015, "Single
pass spectrogram inversion"): nearer to the end than random phases are, and the same every time. No training, no
weights: the baseline that every other vocoder has to beat.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vocoder.mel import Mel, Mfcc
from vocoder.protocol import by_row
from vocoder.spectrum import Padding, sound, spectrum


@torch.no_grad()
def griffin_lim(
    magnitude: Tensor,
    hop: int,
    padding: Padding = "same",
    *,
    iterations: int = 32,
    momentum: float = 0.99,
    edge: str = "reflect",
) -> Tensor:
    """Give a wav (batch, frames * hop) for a magnitude spectrogram (batch, frames, bins).

    Args:
        magnitude: (batch, frames, bins), made with a periodic Hann window of 2 * (bins - 1) samples.
        hop: samples from one frame to the next.
        padding: where the frames stand, see `vocoder.spectrum`.
        iterations: how often to go back and forth.
        momentum: 0 is the classic algorithm.
        edge: see `vocoder.spectrum.spectrum`.
    """
    frames = magnitude.shape[1]
    window = torch.hann_window(2 * (magnitude.shape[2] - 1), device=magnitude.device)
    wav = sound(torch.polar(magnitude, phases_along_peaks(magnitude, hop)), window, hop, padding)
    before = torch.zeros_like(magnitude, dtype=torch.complex64)
    for _ in range(iterations):
        heard = spectrum(wav, window, hop, padding, edge)[:, :frames]
        ahead = torch.lerp(before, heard, 1 + momentum)
        before = heard
        wav = sound(ahead.mul_(magnitude / ahead.abs().clamp_(min=1e-12)), window, hop, padding)
    return wav


def phases_along_peaks(magnitude: Tensor, hop: int) -> Tensor:
    """Guess phases (batch, frames, bins): every bin turns with the frequency of the peak nearest to it."""
    bins = magnitude.shape[2]
    index = torch.arange(bins, device=magnitude.device, dtype=torch.float32)
    left, right = F.pad(magnitude, (1, -1)), F.pad(magnitude, (-1, 1))
    peak = (magnitude > left) & (magnitude >= right)
    low, top, high = (part.clamp(min=1e-9).log() for part in (left, magnitude, right))
    offset = (0.5 * (low - high) / (low - 2 * top + high).clamp(max=-1e-9)).clamp(-0.5, 0.5)  # of a parabola's top
    below = torch.where(peak, index, -bins).cummax(-1).values
    above = torch.where(peak, index, 2 * bins).flip(-1).cummin(-1).values.flip(-1)
    nearest = torch.where(index - below <= above - index, below, above).clamp(0, bins - 1).long()
    frequency = (nearest + offset.gather(-1, nearest)) / (2 * (bins - 1))  # in turns a sample
    turns = (frequency.double() * hop).cumsum(1) % 1.0 + 0.5 * index  # a peak's phase is that of the frame's middle
    return (2 * torch.pi * turns).float()


def spectral_convergence(wav: Tensor, magnitude: Tensor, hop: int, padding: Padding = "same") -> float:
    """Measure how far a wav (batch, samples) is from the magnitudes wanted (batch, frames, bins); 0 is best."""
    window = torch.hann_window(2 * (magnitude.shape[2] - 1), device=wav.device)
    heard = spectrum(wav, window, hop, padding)[:, : magnitude.shape[1]].abs()
    return float(torch.linalg.vector_norm(heard - magnitude) / torch.linalg.vector_norm(magnitude))


class GriffinLim(nn.Module):
    """Vocoder for mel spectrograms and MFCC: (batch, frames, dim) to (batch, frames * hop).

    Phases are found for a clip as a whole, so memory grows with its length: about 25 MB a second at 16 kHz.

    Args:
        features: the `Mel` or `Mfcc` that makes the frames.
        iterations: how often to go back and forth.
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
        """What the frames are."""
        return self.features.reads

    @property
    def filters(self) -> Tensor:
        """The mel filters (bands, bins) beneath the frames."""
        return self.features.mel.filters if isinstance(self.features, Mfcc) else self.features.filters

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Give the wav (batch, frames * hop) of frames (batch, frames, dim)."""
        return by_row(self, self._generate, frames, lengths)

    def _generate(self, frames: Tensor) -> Tensor:
        config = self.features.config
        log_mel = self.features.inverse(frames) if isinstance(self.features, Mfcc) else frames
        magnitude = self.magnitude(log_mel.float().exp())
        return griffin_lim(
            magnitude, config.hop_length, config.padding, iterations=self.iterations, momentum=self.momentum
        )

    def magnitude(self, mel: Tensor, steps: int = 64) -> Tensor:
        """Find magnitudes (batch, frames, bins), none negative, that give these mel frames (batch, frames, bands).

        Lee and Seung's multiplicative steps (2001): they stay positive and need no step size.
        """
        wanted = mel @ self.filters
        square = self.filters.T @ self.filters
        guess = wanted / square.sum(0).clamp(min=1e-12)
        for _ in range(steps):
            guess = guess * wanted / (guess @ square).clamp(min=1e-12)
        return guess
