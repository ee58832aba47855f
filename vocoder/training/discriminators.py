"""Discriminators: they hear sound and say how real it is. Three siblings stand behind one protocol.

    MultiPeriodDiscriminator      every p-th sample beside its neighbours, for several p       (HiFi-GAN, 2010.05646)
    MultiScaleDiscriminator       the wav, and the wav smoothed to a half and a quarter        (MelGAN, 1910.06711)
    MultiResolutionDiscriminator  complex spectrograms in frequency bands                      (Vocos, 2306.00814)

Parts are named as in the published checkpoints, which `load_published` reads.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from vocoder.spectrum import spectrum

SLOPE = 0.1


class Judgement(NamedTuple):
    """What one sub-discriminator says.

    Attributes:
        score: (batch, n), one number for each of the n places it looks at; high means real.
        maps: what its layers saw, each (batch, channels, ...); the last is the score before it was flattened.
    """

    score: Tensor
    maps: list[Tensor]


class Discriminator(Protocol):
    """Anything that judges (batch, samples), with one judgement from each of its sub-discriminators."""

    def __call__(self, wav: Tensor) -> list[Judgement]:
        """Judge (batch, samples)."""
        ...


def judge_both(discriminator: Discriminator, real: Tensor, fake: Tensor) -> tuple[list[Judgement], list[Judgement]]:
    """Judge real and fake sound, both (batch, samples), in one forward: DDP wants no more of them before a backward."""
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(
            f"real has shape {tuple(real.shape)} and fake {tuple(fake.shape)}; to be judged together, both must be "
            "(batch, samples) of the same length."
        )
    judgements = discriminator(torch.cat([real, fake]))
    count = len(real)
    return (
        [Judgement(score[:count], [layer[:count] for layer in maps]) for score, maps in judgements],
        [Judgement(score[count:], [layer[count:] for layer in maps]) for score, maps in judgements],
    )


def load_published(discriminator: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights under their published names, such as the `mpd` and `msd` of a HiFi-GAN `do_*` checkpoint.

    Args:
        discriminator: one of the three of this file, built with the sizes of the published one.
        weights: `discriminators.0.convs.1.weight_g` and so on.
    """
    ours = dict(_renamed(weights))
    have, want = ({key: value.shape for key, value in side.items()} for side in (ours, discriminator.state_dict()))
    wrong = sorted(key for key in have.keys() | want.keys() if have.get(key) != want.get(key))
    if wrong:
        raise ValueError(
            f"These weights do not fit this {type(discriminator).__name__}: {len(wrong)} of its tensors are missing, "
            f"unknown or of another size, such as {wrong[0]}; build it with the sizes of the published one."
        )
    discriminator.load_state_dict(ours)


def _renamed(weights: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    """Turn the names of torch's old weight and spectral norm into those of its parametrizations."""
    for key, value in weights.items():
        part, _, name = key.rpartition(".")
        if name == "window":  # a constant of Vocos' spectrogram
            continue
        if f"{part}.weight_orig" in weights:
            new = {"weight_orig": "original", "weight_u": "0._u", "weight_v": "0._v"}.get(name)
        else:
            new = {"weight_g": "original0", "weight_v": "original1"}.get(name)
        yield (f"{part}.parametrizations.weight.{new}" if new else key), value


class MultiPeriodDiscriminator(nn.Module):
    """Look at every p-th sample, for several periods p.

    Args:
        channels: of each layer. The published ones weigh 41 M; (16, 32, 64, 128, 128) is a slim choice.
        periods: one sub-discriminator for each; without common factors they overlap least.
        first_map: whether the first layer counts among the maps (HiFi-GAN: yes; Vocos: no).
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 128, 512, 1024, 1024),
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        first_map: bool = True,
    ) -> None:
        super().__init__()
        self.shortest = max(periods)
        self.discriminators = nn.ModuleList(PeriodDiscriminator(period, channels, first_map) for period in periods)

    def forward(self, wav: Tensor) -> list[Judgement]:
        """Judge (batch, samples)."""
        _check(wav, self.shortest)
        return [discriminator(wav) for discriminator in self.discriminators]


class PeriodDiscriminator(nn.Module):
    """Fold the wav into rows of `period` samples, and convolve down the columns.

    samples 0 1 2 3 4 5 6 7 with period 3:    0 1 2
                                              3 4 5
                                              6 7(6)    the last row is filled by reflection
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

    def forward(self, wav: Tensor) -> Judgement:
        """Judge (batch, samples)."""
        wav = F.pad(wav[:, None], (0, -wav.shape[1] % self.period), mode="reflect")
        maps = _climb(self.convs, wav.unflatten(2, (-1, self.period)))
        return _judgement(self.conv_post(maps[-1]), maps if self.first_map else maps[1:])


class MultiScaleDiscriminator(nn.Module):
    """Listen to the wav and to smoothed, ever slower versions of it.

    Args:
        channels: of each layer, multiples of 16. The published ones weigh 30 M; (16, 16, 32, 64, 128, 128, 128) is a
            slim choice.
        scales: how many sub-discriminators; each hears half the rate of the one before it.
        first_map: whether the first layer counts among the maps (HiFi-GAN: yes).
    """

    def __init__(
        self,
        channels: Sequence[int] = (128, 128, 256, 512, 1024, 1024, 1024),
        scales: int = 3,
        first_map: bool = True,
    ) -> None:
        super().__init__()
        # HiFi-GAN's authors: spectral norm steadies the one that hears the raw wav
        norms = [spectral_norm] + [weight_norm] * (scales - 1)
        self.discriminators = nn.ModuleList(ScaleDiscriminator(channels, norm, first_map) for norm in norms)

    def forward(self, wav: Tensor) -> list[Judgement]:
        """Judge (batch, samples)."""
        _check(wav, shortest=1)
        x, judgements = wav[:, None], []
        for n, discriminator in enumerate(self.discriminators):
            x = F.avg_pool1d(x, 4, 2, padding=2) if n else x
            judgements.append(discriminator(x))
        return judgements


class ScaleDiscriminator(nn.Module):
    """Long grouped convolutions that shorten the wav 64 times."""

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

    def forward(self, x: Tensor) -> Judgement:
        """Judge (batch, 1, samples)."""
        maps = _climb(self.convs, x)
        return _judgement(self.conv_post(maps[-1]), maps if self.first_map else maps[1:])


class MultiResolutionDiscriminator(nn.Module):
    """Look at complex spectrograms of several resolutions, each band of frequencies with filters of its own.

    Args:
        channels: of each layer; 8 is a slim choice.
        fft_sizes: one sub-discriminator for each.
        first_map: whether the first layers count among the maps (Vocos: no).
    """

    def __init__(
        self, channels: int = 32, fft_sizes: Sequence[int] = (2048, 1024, 512), first_map: bool = False
    ) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(ResolutionDiscriminator(n_fft, channels, first_map) for n_fft in fft_sizes)

    def forward(self, wav: Tensor) -> list[Judgement]:
        """Judge (batch, samples)."""
        _check(wav, shortest=1)
        return [discriminator(wav) for discriminator in self.discriminators]


class ResolutionDiscriminator(nn.Module):
    """One complex spectrogram, its real and imaginary parts as two channels."""

    window: Tensor
    BANDS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # edges, as parts of the spectrum

    def __init__(self, n_fft: int, channels: int, first_map: bool) -> None:
        super().__init__()
        self.first_map = first_map
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.edges = [int(edge * (n_fft // 2 + 1)) for edge in self.BANDS]
        self.band_convs = nn.ModuleList(self._stack(channels) for _ in pairwise(self.edges))
        self.conv_post = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    @staticmethod
    def _stack(channels: int) -> nn.ModuleList:
        wide = [nn.Conv2d(2, channels, (3, 9), padding=(1, 4))]
        wide += [nn.Conv2d(channels, channels, (3, 9), (1, 2), padding=(1, 4)) for _ in range(3)]
        return nn.ModuleList(weight_norm(conv) for conv in [*wide, nn.Conv2d(channels, channels, 3, padding=1)])

    def forward(self, wav: Tensor) -> Judgement:
        """Judge (batch, samples)."""
        x = self.spectrogram(wav)
        bands = [x[..., low:high] for low, high in pairwise(self.edges)]
        climbs = [_climb(convs.children(), band) for convs, band in zip(self.band_convs, bands, strict=True)]
        score = self.conv_post(torch.cat([maps[-1] for maps in climbs], dim=-1))
        return _judgement(score, [layer for maps in climbs for layer in (maps if self.first_map else maps[1:])])

    def spectrogram(self, wav: Tensor) -> Tensor:
        """Give the spectrogram (batch, 2, frames, bins) of (batch, samples) at one loudness, in float32."""
        wav = wav.float()
        wav = wav - wav.mean(1, keepdim=True)
        wav = 0.8 * wav / (wav.abs().amax(1, keepdim=True) + 1e-9)
        spectra = spectrum(wav, self.window, len(self.window) // 4, padding="center")
        return torch.view_as_real(spectra).movedim(-1, 1)


def _climb(convs: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """What each layer makes of the one before it."""
    maps = []
    for conv in convs:
        x = F.leaky_relu(conv(x), SLOPE)
        maps.append(x)
    return maps


def _judgement(score: Tensor, maps: list[Tensor]) -> Judgement:
    return Judgement(score.flatten(1), [*maps, score])


def _check(wav: Tensor, shortest: int) -> None:
    if wav.dim() != 2 or wav.shape[1] < shortest:
        raise ValueError(
            f"wav has shape {tuple(wav.shape)}; a discriminator hears (batch, samples), {shortest} samples or more."
        )
