"""Vocoder losses: adversarial, feature matching and spectral.

All are computed in float32, even under autocast. Loss weights (in HiFi-GAN 2 for feature matching and 45 for the mel
loss) belong to the training loop.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vocoder.mel import Mel, MelConfig
from vocoder.stft import stft
from vocoder.training.discriminators import DiscriminatorOutput

EDGE = 512  # samples of silence after a waveform that is filtered
ROLL_OFF = 0.1  # of a bandwidth, below its end


class AdversarialLoss(Protocol):
    """The two sides of a GAN loss, summed over the sub-discriminators."""

    def discriminator(self, real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]) -> Tensor:
        """Returns the discriminator's loss."""
        ...

    def generator(self, fake: Sequence[DiscriminatorOutput]) -> Tensor:
        """Returns the generator's loss."""
        ...


class LeastSquares:
    """Least-squares GAN (Mao et al. 2017, 1611.04076): real is 1, fake is 0. Used by HiFi-GAN and BigVGAN."""

    def discriminator(self, real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]) -> Tensor:
        """Returns the squared distance of real scores from 1 and of fake ones from 0."""
        return _total([(1 - score).square() for score in _scores(real)] + [score.square() for score in _scores(fake)])

    def generator(self, fake: Sequence[DiscriminatorOutput]) -> Tensor:
        """Returns the squared distance of fake scores from 1."""
        return _total([(1 - score).square() for score in _scores(fake)])


class Hinge:
    """Hinge GAN: scores beyond a margin of 1 on the correct side of zero add no loss. Used by Vocos."""

    def discriminator(self, real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]) -> Tensor:
        """Returns the hinge losses of real scores below 1 and of fake ones above -1."""
        return _total([F.relu(1 - score) for score in _scores(real)] + [F.relu(1 + score) for score in _scores(fake)])

    def generator(self, fake: Sequence[DiscriminatorOutput]) -> Tensor:
        """Returns the hinge loss of fake scores below 1."""
        return _total([F.relu(1 - score) for score in _scores(fake)])


ADVERSARIAL: dict[str, AdversarialLoss] = {"least_squares": LeastSquares(), "hinge": Hinge()}


def feature_matching(real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]) -> Tensor:
    """Returns the L1 distance of the discriminators' feature maps, summed over maps (MelGAN, 1910.06711, equation 4).

    No gradient flows into the real maps.
    """
    pairs = [
        (target.detach(), output)
        for one, other in zip(real, fake, strict=True)
        for target, output in zip(one.feature_maps, other.feature_maps, strict=True)
    ]
    return _total([(target.float() - output.float()).abs() for target, output in pairs])


class MelLoss(nn.Module):
    """L1 distance of log-mel spectrograms."""

    def __init__(self, config: MelConfig | None = None) -> None:
        super().__init__()
        self.mel = Mel(config)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Compare (batch, samples) with (batch, samples)."""
        _check(real, fake)
        with torch.autocast(real.device.type, enabled=False):
            return F.l1_loss(self.mel(fake), self.mel(real))


class MultiScaleMelLoss(nn.Module):
    """L1 distance of log-mel spectrograms, summed over windows from 32 to 2048 samples.

    Short windows resolve clicks, long ones harmonics (Descript Audio Codec, 2306.06546; BigVGAN v2).

    Args:
        sample_rate: of the waveforms, in Hz.
        scales: (window, mel bands) of each spectrogram; hops are a quarter of the window.
    """

    SCALES = ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320))

    def __init__(self, sample_rate: int, scales: Sequence[tuple[int, int]] = SCALES) -> None:
        super().__init__()
        self.losses = nn.ModuleList(
            MelLoss(MelConfig(sample_rate, window, window // 4, bands, padding="center", epsilon=0.0))
            for window, bands in scales
        )

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Compare (batch, samples) with (batch, samples)."""
        # published with logarithms to base 10
        return torch.stack([loss(real, fake) for loss in self.losses]).sum() / math.log(10)


class MultiResolutionSTFTLoss(nn.Module):
    """Spectral convergence plus log magnitude, averaged over resolutions (Yamamoto et al. 2020, 1910.11480).

    Args:
        resolutions: (FFT size, hop, window), in samples, of each spectrogram.
    """

    RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))

    def __init__(self, resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS) -> None:
        super().__init__()
        self.losses = nn.ModuleList(STFTLoss(*resolution) for resolution in resolutions)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Compare (batch, samples) with (batch, samples)."""
        return torch.stack([loss(real, fake) for loss in self.losses]).mean()


class STFTLoss(nn.Module):
    """Spectral convergence plus log magnitude at one resolution."""

    window: Tensor

    def __init__(self, n_fft: int, hop_length: int, window_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        margin = n_fft - window_length
        window = F.pad(torch.hann_window(window_length), (margin // 2, margin - margin // 2))
        self.register_buffer("window", window, persistent=False)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Compare (batch, samples) with (batch, samples)."""
        _check(real, fake)
        with torch.autocast(real.device.type, enabled=False):
            target, output = self.magnitude(real), self.magnitude(fake)
            # row by row, so that a batch may be split between processes
            error, norm = (torch.linalg.vector_norm(part, dim=(1, 2)) for part in (target - output, target))
            return (error / norm).mean() + F.l1_loss(output.log(), target.log())

    def magnitude(self, wav: Tensor) -> Tensor:
        """Returns the magnitude spectrogram (batch, frames, bins), bounded away from zero."""
        spectra = stft(wav.float(), self.window, self.hop_length, padding="center")
        return (spectra.real.square() + spectra.imag.square()).clamp(min=1e-7).sqrt()


def limit_bandwidth(wav: Tensor, bandwidth: Tensor, sample_rate: int) -> Tensor:
    """Return waveforms (batch, samples) without what is above each one's bandwidth (batch,), in Hz.

    Where a recording ends at 8 kHz, so must what it is compared with, or silence would be learned above.
    """
    if bool((bandwidth >= sample_rate / 2).all()):
        return wav
    samples = wav.shape[1]
    padded = F.pad(wav.float(), (0, EDGE))  # or the end would ring at the beginning
    frequencies = torch.fft.rfftfreq(padded.shape[1], 1 / sample_rate, device=wav.device)
    relative = frequencies / bandwidth[:, None]
    gain = (0.5 - 0.5 * torch.cos(math.pi * ((1 - relative) / ROLL_OFF).clamp(0, 1))).to(padded)
    gain = torch.where(bandwidth[:, None] >= sample_rate / 2, 1.0, gain)
    return torch.fft.irfft(torch.fft.rfft(padded) * gain, padded.shape[1])[:, :samples]


def _scores(outputs: Sequence[DiscriminatorOutput]) -> list[Tensor]:
    return [output.score.float() for output in outputs]


def _total(losses: list[Tensor]) -> Tensor:
    return torch.stack([loss.mean() for loss in losses]).sum()


def _check(real: Tensor, fake: Tensor) -> None:
    if real.dim() != 2 or real.shape != fake.shape:
        raise ValueError(
            f"real has shape {tuple(real.shape)} and fake {tuple(fake.shape)}; both must be (batch, samples), equal."
        )
