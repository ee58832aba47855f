"""Mel spectrogram and MFCC, the features of classic vocoders, as modules whose buffers follow the model's device."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vocoder.stft import Padding, stft

Scale = Literal["slaney", "htk"]


@dataclass(frozen=True)
class MelConfig:
    """The parameters of a log-mel spectrogram. The defaults are kNN-VC's, at 16 kHz with frames of 20 ms.

    Attributes:
        sample_rate: of the waveform, in Hz.
        n_fft: FFT size, also the length of the Hann window.
        hop_length: samples from one frame to the next.
        bands: number of mel bands.
        low: lower edge of the lowest band, in Hz.
        high: upper edge of the highest band; half the sample rate if None.
        scale: `slaney` (bands of equal area: HiFi-GAN, BigVGAN) or `htk` (bands of equal height: Vocos).
        padding: how frames are aligned, see `vocoder.stft`.
        floor: lower bound of the mel magnitudes, before the logarithm.
        epsilon: added to the squared magnitude, so that its root is differentiable at 0 (HiFi-GAN: 1e-9; Vocos: 0).
    """

    sample_rate: int = 16_000
    n_fft: int = 1024
    hop_length: int = 320
    bands: int = 80
    low: float = 0.0
    high: float | None = None
    scale: Scale = "slaney"
    padding: Padding = "same"
    floor: float = 1e-5
    epsilon: float = 1e-9

    def __post_init__(self) -> None:
        for name, largest in {"sample_rate": 768_000, "n_fft": 2**15, "hop_length": 2**15, "bands": 1024}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= largest:
                raise ValueError(f"{name} is {value!r}; it must be a positive integer, at most {largest}.")
        for name in ("low", "high", "floor", "epsilon"):
            value = getattr(self, name)
            if not isinstance(value, int | float) and (value is not None or name != "high"):
                raise ValueError(f"{name} is {value!r}; it must be a number.")
        if self.scale not in ("slaney", "htk"):
            raise ValueError(f"scale is {self.scale!r}; possible are 'slaney' and 'htk'.")
        if self.padding not in ("same", "center"):
            raise ValueError(f"padding is {self.padding!r}; possible are 'same' and 'center'.")
        if not 0 < self.hop_length <= self.n_fft:
            raise ValueError(f"hop_length is {self.hop_length}; it must be between 1 and n_fft, {self.n_fft}.")
        if not 0 <= self.low < (self.high or self.sample_rate / 2) <= self.sample_rate / 2:
            raise ValueError(
                f"low is {self.low}, high is {self.high}; 0 <= low < high <= {self.sample_rate / 2} is required."
            )


def mel_config_from(reads: Mapping[str, Any], **overrides: Any) -> MelConfig:
    """Returns the mel spectrogram that a vocoder reads, or the one beneath its MFCCs, with some fields overridden."""
    known = {each.name for each in fields(MelConfig)} & reads.keys()
    return MelConfig(**{**{name: reads[name] for name in known}, **overrides})


class Mel(nn.Module):
    """Log-mel spectrogram: (batch, samples) to (batch, samples // hop_length, bands); `center` adds a frame."""

    window: Tensor
    filters: Tensor

    def __init__(self, config: MelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MelConfig()
        filters = mel_filters(config.sample_rate, config.n_fft, config.bands, config.low, config.high, config.scale)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    @property
    def dim(self) -> int:
        """Size of a frame."""
        return self.config.bands

    @property
    def reads(self) -> dict[str, Any]:
        """What the frames are, for a vocoder to check."""
        return {"kind": "mel", **asdict(self.config)}

    def forward(self, wav: Tensor) -> Tensor:
        """Returns the log-mel spectrogram of (batch, samples)."""
        return (self.magnitude(wav) @ self.filters.T).clamp(min=self.config.floor).log()

    def magnitude(self, wav: Tensor) -> Tensor:
        """Returns the magnitude spectrogram (batch, frames, n_fft // 2 + 1), in float32."""
        spectra = stft(wav.float(), self.window, self.config.hop_length, self.config.padding)
        if self.config.epsilon:
            return (spectra.real.square() + spectra.imag.square() + self.config.epsilon).sqrt()
        return spectra.abs()


class Mfcc(nn.Module):
    """Mel-frequency cepstral coefficients: the first `count` terms of a log-mel frame's DCT."""

    dct: Tensor

    def __init__(self, mel: MelConfig | None = None, count: int = 24) -> None:
        super().__init__()
        self.mel = Mel(mel)
        bands = self.mel.dim
        if not 0 < count <= bands:
            raise ValueError(f"count is {count}; {bands} mel bands have 1 to {bands} cepstral coefficients.")
        self.dim = count
        order = torch.arange(count, dtype=torch.float64)[:, None]
        dct = torch.cos(torch.pi / bands * order * (torch.arange(bands) + 0.5)) * (2.0 / bands) ** 0.5
        dct[0] *= 0.5**0.5
        self.register_buffer("dct", dct.float(), persistent=False)

    @property
    def config(self) -> MelConfig:
        """The parameters of the underlying log-mel spectrogram."""
        return self.mel.config

    @property
    def reads(self) -> dict[str, Any]:
        """What the frames are, for a vocoder to check."""
        return {**self.mel.reads, "kind": "mfcc", "count": self.dim}

    def forward(self, wav: Tensor) -> Tensor:
        """Map (batch, samples) to (batch, frames, count)."""
        return self.mel(wav) @ self.dct.T

    def inverse(self, frames: Tensor) -> Tensor:
        """Returns smoothed log-mel frames (batch, frames, bands), exact if `count` is `bands`."""
        return frames @ self.dct


def mel_filters(
    sample_rate: int, n_fft: int, bands: int, low: float = 0.0, high: float | None = None, scale: Scale = "slaney"
) -> Tensor:
    """Returns triangular filters (bands, n_fft // 2 + 1), equally spaced on the `slaney` or `htk` mel scale."""
    ends = torch.tensor([low, high or sample_rate / 2], dtype=torch.float64)
    to_mel, to_hertz = (_slaney_mel, _slaney_hertz) if scale == "slaney" else (_htk_mel, _htk_hertz)
    mels = to_mel(ends)
    edges = to_hertz(mels[0] + (mels[1] - mels[0]) * torch.linspace(0, 1, bands + 2, dtype=torch.float64))
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = torch.minimum(rising, falling).clamp(min=0)
    if scale == "slaney":
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters.float()


def _htk_mel(hertz: Tensor) -> Tensor:
    return 2595.0 * torch.log10(1.0 + hertz / 700.0)


def _htk_hertz(mel: Tensor) -> Tensor:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


# linear to 1 kHz (15 mel), logarithmic above: 27 mel to 6.4 times the frequency
_STEP = torch.log(torch.tensor(6.4, dtype=torch.float64)) / 27.0


def _slaney_mel(hertz: Tensor) -> Tensor:
    return torch.where(hertz < 1000.0, hertz * 3.0 / 200.0, 15.0 + (hertz / 1000.0).clamp(min=1e-9).log() / _STEP)


def _slaney_hertz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * ((mel - 15.0) * _STEP).exp())
