"""Vocos: ConvNeXt blocks at the frame rate, then one inverse STFT up to the sample rate. Suits CPUs.

Siuzdak, 2023, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders for high-quality audio
synthesis", arXiv 2306.00814. All layers run at the frame rate, so it is about thirty times as fast as HiFi-GAN V1 with
as many weights.

With `harmonic` the network predicts no spectrum but filters for the spectra of pulses at F0 and of noise (see
`vocoder.excitation`): phases are then coherent across frames by construction, and a small network has less to learn.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from yaml import YAMLError

from vocoder.excitation import Excitation
from vocoder.files import read_text
from vocoder.foreign import build, read_checkpoint
from vocoder.mel import Mel, MelConfig
from vocoder.network import NeuralVocoder, VocoderConfig
from vocoder.stft import Padding, istft, stft

KERNEL = 7  # of every convolution


@dataclass(frozen=True)
class VocosConfig(VocoderConfig):
    """The shape of a `Vocos`.

    Attributes:
        width: channels of the blocks.
        ffn_dim: width inside a block.
        depth: number of blocks.
        n_fft: FFT size of the inverse STFT.
        hop: samples from one frame to the next.
        padding: how frames are aligned, see `vocoder.stft`; the published models use `center`.
        spectra: spectra per frame.
        harmonic: whether pulses and noise are filtered; a frame's first number must then be log-F0.
    """

    kind: str = "vocos"
    width: int = 512
    ffn_dim: int = 1536
    depth: int = 8
    n_fft: int = 1280
    hop: int = 320
    padding: Padding = "same"
    spectra: int = 1
    harmonic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.padding not in ("same", "center"):
            raise ValueError(f"padding is {self.padding!r}; possible are 'same' and 'center'.")
        if self.hop % self.spectra:
            raise ValueError(f"spectra is {self.spectra}; it must divide the hop, {self.hop}.")
        if self.n_fft < 2 * self.step or self.n_fft % 2:
            raise ValueError(f"n_fft is {self.n_fft}; it must be even and at least twice the hop, {self.step}.")

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.hop

    @property
    def step(self) -> int:
        """Samples from one spectrum to the next."""
        return self.hop // self.spectra


class Vocos(NeuralVocoder):
    """Vocos generator: (batch, frames, dim) to (batch, frames * hop_length).

    Its context is 3 frames per convolution plus the frames that a spectrum overlaps.
    """

    config: VocosConfig
    window: Tensor

    def __init__(self, config: VocosConfig | None = None) -> None:
        config = config or VocosConfig()
        super().__init__(config)
        self.embed = nn.Conv1d(config.dim, config.width, KERNEL, padding=KERNEL // 2)
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.convnext = nn.ModuleList(ConvNeXtBlock(config) for _ in range(config.depth))
        self.final_layer_norm = nn.LayerNorm(config.width, eps=1e-6)
        self.bins = config.n_fft // 2 + 1
        self.bin_outputs = 3 if config.harmonic else 2  # log-magnitude and phase; log-magnitude of the noise filter
        self.out = nn.Linear(config.width, config.spectra * self.bin_outputs * self.bins)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.apply(_init_weights)
        if config.harmonic:
            self.excitation = Excitation(config.sample_rate, config.hop)
        self.context = (config.depth + 1) * (KERNEL // 2) + math.ceil(config.n_fft / config.hop)

    @classmethod
    def from_foreign(cls, folder: str | Path) -> Self:
        """Load a folder of gemelo-ai's mel models: `pytorch_model.bin` with its `config.yaml`."""
        folder = Path(folder)
        weights, _ = read_checkpoint(folder / "pytorch_model.bin")
        weights = {
            key.split(".", 1)[1]: value for key, value in weights.items() if key.startswith(("backbone", "head"))
        }
        weights.pop("istft.window", None)
        try:
            settings = OmegaConf.create(read_text(folder / "config.yaml"))
            head, features = settings.head.init_args, settings.feature_extractor.init_args
            width, bands, _ = weights["embed.weight"].shape
            shape = {"n_fft": head.n_fft, "hop": head.hop_length, "padding": head.get("padding", "same")}
            mel = MelConfig(
                features.sample_rate, features.n_fft, features.hop_length, bands, scale="htk", floor=1e-7, epsilon=0.0
            )
            # `center` gives one frame more than samples // hop, as the published model expects
            mel = replace(mel, padding=features.get("padding", "center"))
            depth = sum(key.endswith("gamma") for key in weights)
            ffn_dim = weights["convnext.0.pwconv1.weight"].shape[0]
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError, YAMLError) as error:
            reason = str(error).splitlines()[0].removesuffix(".")
            raise ValueError(f"{folder} is not a Vocos for mel spectrograms ({reason}).") from None
        config = VocosConfig(
            dim=bands,
            sample_rate=features.sample_rate,
            reads=Mel(mel).reads,
            width=width,
            ffn_dim=ffn_dim,
            depth=depth,
            **shape,
        )
        return build(cls, config, weights, folder)

    def backbone(self, frames: Tensor) -> Tensor:
        """Map (batch, frames, dim) to (batch, frames, width)."""
        x = self.norm(self.embed(frames.to(self.embed.weight.dtype).transpose(1, 2)).transpose(1, 2))
        for block in self.convnext:
            x = block(x)
        return self.final_layer_norm(x)

    def generate(self, frames: Tensor) -> Tensor:
        """Map unpadded rows (batch, frames, dim) to (batch, frames * hop_length)."""
        outputs = self.out(self.backbone(frames[..., : self.dim])).float()
        log_magnitude, phase, *noise_filter = outputs.view(len(frames), -1, self.bin_outputs, self.bins).unbind(2)
        magnitude = log_magnitude.exp().clamp(max=100.0)
        spectra = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())
        window, step = self.window.float(), self.config.step
        if self.excitation is not None:
            pulses, noise = (stft(each, window, step, self.config.padding) for each in self.excitation(frames))
            spectra = spectra * pulses + noise_filter[0].exp().clamp(max=100.0) * noise
        return istft(spectra, window, step, self.config.padding)


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution over time and two pointwise layers, scaled and added to the input."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(config.width, config.width, KERNEL, padding=KERNEL // 2, groups=config.width)
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.pwconv1 = nn.Linear(config.width, config.ffn_dim)
        self.pwconv2 = nn.Linear(config.ffn_dim, config.width)
        self.gamma = nn.Parameter(torch.full((config.width,), 1.0 / config.depth))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, frames, width) to the same shape."""
        hidden = self.norm(self.dwconv(x.transpose(1, 2)).transpose(1, 2))
        return x + self.gamma * self.pwconv2(nn.functional.gelu(self.pwconv1(hidden)))


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
