"""Discriminators of real and generated waveforms, behind one protocol.

    MultiPeriodDiscriminator      every p-th sample, for several periods p                     (HiFi-GAN, 2010.05646)
    MultiScaleDiscriminator       the waveform, and average-pooled to a half and a quarter     (MelGAN, 1910.06711)
    MultiResolutionDiscriminator  complex spectrograms in frequency bands                      (Vocos, 2306.00814)

Parameters are named as in the published checkpoints, which `load_published` reads.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from vocoder.stft import stft

SLOPE = 0.1


class DiscriminatorOutput(NamedTuple):
    """The output of one sub-discriminator.

    Attributes:
        score: (batch, n), one score per receptive field; high means real.
        feature_maps: of its layers, each (batch, channels, ...); the last is the score before flattening.
    """

    score: Tensor
    feature_maps: list[Tensor]


class Discriminator(Protocol):
    """Anything that scores waveforms, with one output per sub-discriminator."""

    def __call__(self, wav: Tensor) -> list[DiscriminatorOutput]:
        """Score (batch, samples)."""
        ...


def discriminate(
    discriminator: Discriminator, real: Tensor, fake: Tensor
) -> tuple[list[DiscriminatorOutput], list[DiscriminatorOutput]]:
    """Score real and fake waveforms (batch, samples) in one forward pass: DDP allows only one before a backward."""
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(
            f"real has shape {tuple(real.shape)} and fake {tuple(fake.shape)}; to be scored together, both must be "
            "(batch, samples) of the same length."
        )
    outputs = discriminator(torch.cat([real, fake]))
    count = len(real)
    return (
        [DiscriminatorOutput(score[:count], [each[:count] for each in maps]) for score, maps in outputs],
        [DiscriminatorOutput(score[count:], [each[count:] for each in maps]) for score, maps in outputs],
    )


def load_published(discriminator: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights under their published names, such as the `mpd` and `msd` of a HiFi-GAN `do_*` checkpoint.

    Args:
        discriminator: one of this module's three, of the published size.
        weights: `discriminators.0.convs.1.weight_g` and so on.
    """
    renamed = dict(_rename_weights(weights))
    found, wanted = ({key: value.shape for key, value in of.items()} for of in (renamed, discriminator.state_dict()))
    wrong = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    if wrong:
        raise ValueError(
            f"these weights do not fit this {type(discriminator).__name__}: {len(wrong)} of its tensors are missing, "
            f"unknown or of another size, such as {wrong[0]}; build it with the published sizes."
        )
    discriminator.load_state_dict(renamed)


def _rename_weights(weights: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    """Rename the weights of torch's old weight and spectral norm to those of its parametrizations."""
    for key, value in weights.items():
        part, _, name = key.rpartition(".")
        if name == "window":  # a buffer of Vocos' spectrogram
            continue
        if f"{part}.weight_orig" in weights:
            new = {"weight_orig": "original", "weight_u": "0._u", "weight_v": "0._v"}.get(name)
        else:
            new = {"weight_g": "original0", "weight_v": "original1"}.get(name)
        yield (f"{part}.parametrizations.weight.{new}" if new else key), value


class MultiPeriodDiscriminator(nn.Module):
    """Score every p-th sample, for several periods p.

    Args:
        channels: of each layer. The published ones have 41 M parameters; (16, 32, 64, 128, 128) is a slim choice.
        periods: one sub-discriminator for each; coprime periods overlap least.
        first_map: whether the first layer's feature map is returned (HiFi-GAN: yes; Vocos: no).
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 128, 512, 1024, 1024),
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        first_map: bool = True,
    ) -> None:
        super().__init__()
        self.min_samples = max(periods)
        self.discriminators = nn.ModuleList(PeriodDiscriminator(period, channels, first_map) for period in periods)

    def forward(self, wav: Tensor) -> list[DiscriminatorOutput]:
        """Score (batch, samples)."""
        _check(wav, self.min_samples)
        return [discriminator(wav) for discriminator in self.discriminators]


class PeriodDiscriminator(nn.Module):
    """Fold the waveform into rows of `period` samples, and convolve down the columns.

    samples 0 1 2 3 4 5 6 7 with period 3:    0 1 2
                                              3 4 5
                                              6 7(6)    the last row is padded by reflection
    """

    def __init__(self, period: int, channels: Sequence[int], first_map: bool) -> None:
        super().__init__()
        self.period = period
        self.first_map = first_map
        last = len(channels) - 1
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, (5, 1), (1 if n == last else 3, 1), padding=(2, 0)))
            for n, (before, after) in enumerate(pairwise((1, *channels)))
        )
        self.conv_post = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wav: Tensor) -> DiscriminatorOutput:
        """Score (batch, samples)."""
        wav = F.pad(wav[:, None], (0, -wav.shape[1] % self.period), mode="reflect")
        columns = rearrange(wav, "batch one (rows period) -> batch one rows period", period=self.period)
        maps = _feature_maps(self.convs, columns)
        return _output(self.conv_post(maps[-1]), maps if self.first_map else maps[1:])


class MultiScaleDiscriminator(nn.Module):
    """Score the waveform and average-pooled versions of it.

    Args:
        channels: of each layer, multiples of 16. The published ones have 30 M parameters; (16, 16, 32, 64, 128, 128,
            128) is a slim choice.
        scales: number of sub-discriminators; each sees half the sample rate of the one before.
        first_map: whether the first layer's feature map is returned (HiFi-GAN: yes).
    """

    def __init__(
        self,
        channels: Sequence[int] = (128, 128, 256, 512, 1024, 1024, 1024),
        scales: int = 3,
        first_map: bool = True,
    ) -> None:
        super().__init__()
        # HiFi-GAN's authors: spectral norm stabilises the one on the raw waveform
        norms = [spectral_norm] + [weight_norm] * (scales - 1)
        self.discriminators = nn.ModuleList(ScaleDiscriminator(channels, norm, first_map) for norm in norms)

    def forward(self, wav: Tensor) -> list[DiscriminatorOutput]:
        """Score (batch, samples)."""
        _check(wav, min_samples=1)
        x, outputs = wav[:, None], []
        for n, discriminator in enumerate(self.discriminators):
            x = F.avg_pool1d(x, 4, 2, padding=2) if n else x
            outputs.append(discriminator(x))
        return outputs


class ScaleDiscriminator(nn.Module):
    """Grouped convolutions with long kernels that downsample the waveform 64 times."""

    KERNELS = (15, 41, 41, 41, 41, 41, 5)
    STRIDES = (1, 2, 2, 4, 4, 1, 1)
    GROUPS = (1, 4, 16, 16, 16, 16, 1)

    def __init__(self, channels: Sequence[int], norm: Callable[[nn.Module], nn.Module], first_map: bool) -> None:
        super().__init__()
        self.first_map = first_map
        shapes = zip(pairwise((1, *channels)), self.KERNELS, self.STRIDES, self.GROUPS, strict=True)
        self.convs = nn.ModuleList(
            norm(nn.Conv1d(before, after, kernel, stride, padding=kernel // 2, groups=groups))
            for (before, after), kernel, stride, groups in shapes
        )
        self.conv_post = norm(nn.Conv1d(channels[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        """Score (batch, 1, samples)."""
        maps = _feature_maps(self.convs, x)
        return _output(self.conv_post(maps[-1]), maps if self.first_map else maps[1:])


class MultiResolutionDiscriminator(nn.Module):
    """Score complex spectrograms of several resolutions, with separate filters for each frequency band.

    Args:
        channels: of each layer; 8 is a slim choice.
        fft_sizes: one sub-discriminator for each.
        first_map: whether the first layers' feature maps are returned (Vocos: no).
    """

    def __init__(
        self, channels: int = 32, fft_sizes: Sequence[int] = (2048, 1024, 512), first_map: bool = False
    ) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(ResolutionDiscriminator(n_fft, channels, first_map) for n_fft in fft_sizes)

    def forward(self, wav: Tensor) -> list[DiscriminatorOutput]:
        """Score (batch, samples)."""
        _check(wav, min_samples=1)
        return [discriminator(wav) for discriminator in self.discriminators]


class ResolutionDiscriminator(nn.Module):
    """Score one complex spectrogram, its real and imaginary parts as two channels."""

    window: Tensor
    BANDS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # edges, as fractions of the spectrum

    def __init__(self, n_fft: int, channels: int, first_map: bool) -> None:
        super().__init__()
        self.first_map = first_map
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.edges = [int(edge * (n_fft // 2 + 1)) for edge in self.BANDS]
        self.band_convs = nn.ModuleList(self._stack(channels) for _ in pairwise(self.edges))
        self.conv_post = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    @staticmethod
    def _stack(channels: int) -> nn.ModuleList:
        convs = [nn.Conv2d(2, channels, (3, 9), padding=(1, 4))]
        convs += [nn.Conv2d(channels, channels, (3, 9), (1, 2), padding=(1, 4)) for _ in range(3)]
        return nn.ModuleList(weight_norm(conv) for conv in [*convs, nn.Conv2d(channels, channels, 3, padding=1)])

    def forward(self, wav: Tensor) -> DiscriminatorOutput:
        """Score (batch, samples)."""
        x = self.spectrogram(wav)
        bands = [x[..., low:high] for low, high in pairwise(self.edges)]
        maps = [_feature_maps(convs.children(), band) for convs, band in zip(self.band_convs, bands, strict=True)]
        score = self.conv_post(torch.cat([band_maps[-1] for band_maps in maps], dim=-1))
        return _output(score, [each for band_maps in maps for each in (band_maps if self.first_map else band_maps[1:])])

    def spectrogram(self, wav: Tensor) -> Tensor:
        """Returns the float32 spectrogram (batch, 2, frames, bins) of (batch, samples), at a fixed peak level."""
        wav = wav.float()
        wav = wav - wav.mean(1, keepdim=True)
        wav = 0.8 * wav / (wav.abs().amax(1, keepdim=True) + 1e-9)
        spectra = stft(wav, self.window, len(self.window) // 4, padding="center")
        return torch.view_as_real(spectra).movedim(-1, 1)


def _feature_maps(convs: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """Returns every layer's output."""
    maps = []
    for conv in convs:
        x = F.leaky_relu(conv(x), SLOPE)
        maps.append(x)
    return maps


def _output(score: Tensor, maps: list[Tensor]) -> DiscriminatorOutput:
    return DiscriminatorOutput(score.flatten(1), [*maps, score])


def _check(wav: Tensor, min_samples: int) -> None:
    if wav.dim() != 2 or wav.shape[1] < min_samples:
        raise ValueError(
            f"wav has shape {tuple(wav.shape)}; it must be (batch, samples) with at least {min_samples} samples."
        )
