"""What vocoders are trained with: the game against the discriminators, and distances between spectra.

Everything is computed in float32, whatever autocast says. Weights (HiFi-GAN counts its feature matching twice and its
mel loss 45 times) are the training loop's.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vocoder.mel import Mel, MelConfig
from vocoder.spectrum import spectrum
from vocoder.training.discriminators import Judgement


class AdversarialLoss(Protocol):
    """What the scores cost either player, summed over the sub-discriminators."""

    def discriminator(self, real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
        """Give the cost of not telling real from fake."""
        ...

    def generator(self, fake: Sequence[Judgement]) -> Tensor:
        """Give the cost of being found out."""
        ...


class LeastSquares:
    """Least-squares GAN (Mao et al. 2017, 1611.04076): real is 1, fake is 0. HiFi-GAN and BigVGAN play it."""

    def discriminator(self, real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
        """Give the squared distance of real scores from 1 and of fake ones from 0."""
        return _total([(1 - score).square() for score in _scores(real)] + [score.square() for score in _scores(fake)])

    def generator(self, fake: Sequence[Judgement]) -> Tensor:
        """Give the squared distance of fake scores from 1."""
        return _total([(1 - score).square() for score in _scores(fake)])


class Hinge:
    """Hinge GAN: beyond a margin of 1 on the right side of zero a score costs nothing. Vocos plays it."""

    def discriminator(self, real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
        """Give what real scores lack to 1, and what fake ones exceed -1 by."""
        return _total([F.relu(1 - score) for score in _scores(real)] + [F.relu(1 + score) for score in _scores(fake)])

    def generator(self, fake: Sequence[Judgement]) -> Tensor:
        """Give what fake scores lack to 1."""
        return _total([F.relu(1 - score) for score in _scores(fake)])


ADVERSARIAL: dict[str, AdversarialLoss] = {"least_squares": LeastSquares(), "hinge": Hinge()}


def feature_matching(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
    """Give the mean distance of the discriminators' maps, summed over all maps (MelGAN, 1910.06711, equation 4).

    The real maps are a target: no gradient flows into them.
    """
    pairs = [
        (target.detach(), ours)
        for one, other in zip(real, fake, strict=True)
        for target, ours in zip(one.maps, other.maps, strict=True)
    ]
    return _total([(target.float() - ours.float()).abs() for target, ours in pairs])


class MelLoss(nn.Module):
    """Mean distance of two sounds' log-mel spectrograms."""

    def __init__(self, config: MelConfig | None = None) -> None:
        super().__init__()
        self.mel = Mel(config)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Compare (batch, samples) with (batch, samples)."""
        _check(real, fake)
        with torch.autocast(real.device.type, enabled=False):
            return F.l1_loss(self.mel(fake), self.mel(real))


class MultiScaleMelLoss(nn.Module):
    """Mean distance of log-mel spectrograms, summed over windows from 32 to 2048 samples.

    Short windows place a click, long ones tune a harmonic (Descript Audio Codec, 2306.06546; BigVGAN v2).

    Args:
        sample_rate: of the wav, in Hz.
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
        # its logarithms are to base 10
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
        spare = n_fft - window_length
        window = F.pad(torch.hann_window(window_length), (spare // 2, spare - spare // 2))
        self.register_buffer("window", window, persistent=False)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Compare (batch, samples) with (batch, samples)."""
        _check(real, fake)
        with torch.autocast(real.device.type, enabled=False):
            target, ours = self.magnitude(real), self.magnitude(fake)
            # row by row, so that a batch may be shared by several processes
            far, size = (torch.linalg.vector_norm(part, dim=(1, 2)) for part in (target - ours, target))
            return (far / size).mean() + F.l1_loss(ours.log(), target.log())

    def magnitude(self, wav: Tensor) -> Tensor:
        """Give the magnitude spectrogram (batch, frames, bins), kept off zero."""
        spectra = spectrum(wav.float(), self.window, self.hop_length, padding="center")
        return (spectra.real.square() + spectra.imag.square()).clamp(min=1e-7).sqrt()


def _scores(judgements: Sequence[Judgement]) -> list[Tensor]:
    return [judgement.score.float() for judgement in judgements]


def _total(costs: list[Tensor]) -> Tensor:
    return torch.stack([cost.mean() for cost in costs]).sum()


def _check(real: Tensor, fake: Tensor) -> None:
    if real.dim() != 2 or real.shape != fake.shape:
        raise ValueError(
            f"real has shape {tuple(real.shape)} and fake {tuple(fake.shape)}; both must be (batch, samples), equal."
        )
