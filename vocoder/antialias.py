"""Anti-aliased activations: upsample by two, apply the nonlinearity, downsample.

Karras et al., 2021, arXiv 2106.12423; for audio: Lee et al., 2023, "BigVGAN", arXiv 2206.04658, with the periodic
activation of Ziyin, Hartwig and Ueda, 2020, arXiv 2006.08195.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = 12


class Snake(nn.Module):
    """x + sin²(αx) / β, per channel; β is α unless learned separately.

    Args:
        channels: number of channels.
        separate_beta: whether β is learned separately from α (SnakeBeta).
        log_scale: whether the weights are logarithms of α and β.
    """

    def __init__(self, channels: int, separate_beta: bool = True, log_scale: bool = True) -> None:
        super().__init__()
        start = torch.zeros if log_scale else torch.ones
        self.log_scale = log_scale
        self.alpha = nn.Parameter(start(channels))
        self.beta = nn.Parameter(start(channels)) if separate_beta else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, samples) to the same shape."""
        alpha, beta = self.alpha[:, None], (self.alpha if self.beta is None else self.beta)[:, None]
        if self.log_scale:
            alpha, beta = alpha.exp(), beta.exp()
        return x + (x * alpha).sin().square() / (beta + 1e-9)


class AntiAliasedActivation(nn.Module):
    """An activation at twice the sample rate: (batch, channels, samples) to the same shape."""

    CONTEXT = 6  # samples on either side that the output depends on
    filter: Tensor

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.act = activation
        self.register_buffer("filter", half_band_filter(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation to (batch, channels, samples)."""
        channels, samples = x.shape[1:]
        taps = self.filter.to(x.dtype).expand(channels, 1, TAPS)
        x = F.pad(x, (5, 5), mode="replicate")
        x = 2.0 * F.conv_transpose1d(x, taps, stride=2, groups=channels)[..., 15 : 15 + 2 * samples]
        x = F.pad(self.act(x), (5, 6), mode="replicate")
        return F.conv1d(x, taps, stride=2, groups=channels)


def half_band_filter() -> Tensor:
    """Returns the low-pass filter (1, 1, 12): a Kaiser-windowed sinc, cutoff at half the band, transition 0.3 wide."""
    attenuation = 2.285 * (TAPS // 2 - 1) * math.pi * 1.2 + 7.95
    beta = 0.1102 * (attenuation - 8.7) if attenuation > 50 else 0.5842 * (attenuation - 21) ** 0.4
    beta += 0.0 if attenuation > 50 else 0.07886 * (attenuation - 21)
    time = torch.arange(TAPS) - TAPS / 2 + 0.5
    taps = torch.kaiser_window(TAPS, periodic=False, beta=beta) * torch.sinc(time / 2)
    return (taps / taps.sum()).view(1, 1, TAPS)
