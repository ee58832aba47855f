"""HiFi-GAN: transposed convolutions up to the sample rate, each followed by parallel residual stacks.

Kong, Kim and Bae, 2020, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis",
arXiv 2010.05646. On SSL features a linear layer narrows the frames first (Baas, van Niekerk and Kamper, 2023, "Voice
Conversion With Just Nearest Neighbors", arXiv 2305.18975). With `harmonic`, pulses at F0 and noise are added at every
rate (as in Wang, Takaki and Yamagishi, 2019, "Neural source-filter waveform models", arXiv 1904.12088).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vocoder.excitation import Excitation
from vocoder.foreign import build, mel_from_settings, read_checkpoint, rename_weights, shape_from_weights
from vocoder.mel import Mel
from vocoder.network import NeuralVocoder, VocoderConfig, same_padding

SLOPE = 0.1
LAST_SLOPE = 0.01  # the published models differ before the last convolution


@dataclass(frozen=True)
class HiFiGANConfig(VocoderConfig):
    """The shape of a `HiFiGAN`. The defaults are kNN-VC's: V1 on frames of 1024 numbers and 320 samples.

    Attributes:
        projection: width of the input linear layer; 0 for none.
        channels: of the first convolution; each upsampling layer halves them.
        rates: upsampling factors; their product is the hop.
        kernels: of the transposed convolutions; each exceeds its rate by an even number.
        block: 1 (three pairs of convolutions, V1 and V2) or 2 (single convolutions, V3).
        block_kernels: kernels of the parallel residual stacks.
        dilations: of each stack's convolutions.
        final_bias: whether the last convolution has a bias.
        harmonic: whether pulses and noise are added (`vocoder.excitation`); a frame's first number must then be log-F0.
    """

    kind: str = "hifigan"
    dim: int = 1024
    projection: int = 512
    channels: int = 512
    rates: tuple[int, ...] = (10, 8, 2, 2)
    kernels: tuple[int, ...] = (20, 16, 4, 4)
    block: int = 1
    block_kernels: tuple[int, ...] = (3, 7, 11)
    dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    final_bias: bool = True
    harmonic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.rates) != len(self.kernels):
            raise ValueError(f"{len(self.rates)} rates need as many kernels, not {len(self.kernels)}.")
        for rate, kernel in zip(self.rates, self.kernels, strict=True):
            if kernel < rate or (kernel - rate) % 2:
                raise ValueError(f"kernel {kernel} does not exceed its rate {rate} by an even number.")
        if len(self.block_kernels) != len(self.dilations):
            raise ValueError(f"{len(self.block_kernels)} block_kernels need as many lists of dilations.")
        if self.block not in (1, 2):
            raise ValueError(f"block is {self.block}; possible are 1 and 2.")
        if self.channels % 2 ** len(self.rates):
            raise ValueError(f"channels is {self.channels}; it is halved {len(self.rates)} times.")

    def _minimum(self, name: str) -> int:
        return 0 if name == "projection" else 1

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.rates)

    @classmethod
    def v1(cls, dim: int = 80, **other: Any) -> Self:
        """The largest of the paper's three, without an input linear layer, as for mel spectrograms."""
        return cls(**{"dim": dim, "projection": 0, **other})

    @classmethod
    def v2(cls, dim: int = 80, **other: Any) -> Self:
        """V1 with a quarter of the channels."""
        return cls.v1(dim, **{"channels": 128, **other})

    @classmethod
    def v3(cls, dim: int = 80, **other: Any) -> Self:
        """Fewer and simpler layers."""
        shape = {"channels": 256, "rates": (10, 8, 4), "kernels": (20, 16, 8), "block": 2, "block_kernels": (3, 5, 7)}
        return cls.v1(dim, **{**shape, "dilations": ((1, 2), (2, 6), (3, 12)), **other})

    def at_rate(self, sample_rate: int) -> Self:
        """The same shape at a higher rate, from the same 20 ms frames."""
        upsampling = {
            16_000: ((10, 8, 2, 2), (20, 16, 4, 4)),
            24_000: ((10, 8, 3, 2), (20, 16, 7, 4)),
            44_100: ((9, 7, 7, 2), (19, 15, 15, 4)),
            48_000: ((10, 8, 4, 3), (20, 16, 8, 7)),
        }
        if sample_rate not in upsampling:
            raise ValueError(
                f"no upsampling is known for {sample_rate} Hz; set rates and kernels, or use one of "
                f"{', '.join(map(str, upsampling))}."
            )
        rates, kernels = upsampling[sample_rate]
        return replace(self, sample_rate=sample_rate, rates=rates, kernels=kernels)


class HiFiGAN(NeuralVocoder):
    """HiFi-GAN generator: (batch, frames, dim) to (batch, frames * hop_length)."""

    trains_with_weight_norm = True
    ACTIVATION_CONTEXT = 0  # steps on either side that an activation depends on
    config: HiFiGANConfig

    def __init__(self, config: HiFiGANConfig | None = None) -> None:
        config = config or HiFiGANConfig()
        super().__init__(config)
        width = config.projection or self._input_width()
        self.lin_pre = nn.Linear(self._input_width(), width) if config.projection else nn.Identity()
        self.conv_pre = nn.Conv1d(width, config.channels, 7, padding=3)
        self.ups, self.resblocks, self.sources = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        if config.harmonic:
            self.excitation = Excitation(config.sample_rate, config.hop_length)
        channels, step = config.channels, config.hop_length
        for rate, kernel in zip(config.rates, config.kernels, strict=True):
            step //= rate
            if config.harmonic:
                self.sources.append(nn.Conv1d(2, channels // 2, 2 * step, step))
            self.ups.append(nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2))
            channels //= 2
            for block_kernel, dilations in zip(config.block_kernels, config.dilations, strict=True):
                stack = ResidualStack(channels, block_kernel, dilations, config.block == 1, self._activation)
                self.resblocks.append(stack)
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=config.final_bias)
        for convolutions in (self.ups, self.resblocks, self.sources, self.conv_post):
            convolutions.apply(_init_weights)
        self.context = context_frames(config, self.ACTIVATION_CONTEXT)

    def _input_width(self) -> int:
        return self.config.dim

    def _activation(self, channels: int) -> nn.Module:
        """Returns the activation before each convolution of a residual stack."""
        return nn.LeakyReLU(SLOPE)

    @classmethod
    def from_foreign(cls, source: str | Path, config: HiFiGANConfig | Mapping[str, Any] | None = None) -> Self:
        """Load a generator published by others.

        Args:
            source: kNN-VC's `prematch_g_02500000.pt` or `g_02500000.pt`, or jik876's `generator_v1`.
            config: its shape, or the settings published with it. If None, the `config.json` beside the file; anything
                still missing is as in the papers.
        """
        weights, settings = read_checkpoint(Path(source), "generator")
        if isinstance(config, HiFiGANConfig):
            return build(cls, config, rename_weights(weights), source)
        settings = dict(config or settings)
        shape = shape_from_weights(weights, settings)
        weights = rename_weights(weights)
        if "lin_pre.weight" in weights:
            projection, dim = weights["lin_pre.weight"].shape
            reads: dict[str, Any] = {"kind": "ssl", "layer": 6, "normalized": False}  # of WavLM-Large
            inputs: dict[str, Any] = {"dim": dim, "projection": projection, "reads": reads}
        else:
            mel = mel_from_settings(settings, weights["conv_pre.weight"].shape[1])
            inputs = {"dim": mel.bands, "projection": 0, "sample_rate": mel.sample_rate, "reads": Mel(mel).reads}
        return build(cls, HiFiGANConfig(**shape, **inputs), weights, source)

    def generate(self, frames: Tensor) -> Tensor:
        """Map unpadded rows (batch, frames, dim) to (batch, frames * hop_length)."""
        dtype = self.conv_pre.weight.dtype
        source = None if self.excitation is None else torch.stack(self.excitation(frames), 1).to(dtype)
        return self.upsample(self.lin_pre(frames[..., : self.dim].to(dtype)).transpose(1, 2), source)

    def upsample(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        """Map the first convolution's input to waveforms (batch, frames * hop_length).

        Args:
            x: (batch, width, frames).
            source: pulses and noise (batch, 2, frames * hop_length) if the vocoder is `harmonic`.
        """
        x = self.conv_pre(x)
        stacks = len(self.config.block_kernels)
        for index, up in enumerate(self.ups):
            x = up(self._before_up(x))
            if source is not None:
                step = source.shape[2] // x.shape[2]
                x = x + self.sources[index](F.pad(source, (step // 2, step - step // 2)))
            first, *others = self.resblocks[index * stacks : (index + 1) * stacks]
            total = first(x)
            for block in others:
                total = total + block(x)
            x = total / stacks
        return self._finish(x)[:, 0]

    def _before_up(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, SLOPE)

    def _finish(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv_post(F.leaky_relu(x, LAST_SLOPE)))


class ResidualStack(nn.Module):
    """Residual dilated convolutions; if `paired`, each is followed by an undilated one."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        dilations: tuple[int, ...],
        paired: bool,
        activation: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()

        def convolution(dilation: int) -> nn.Conv1d:
            return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=same_padding(kernel, dilation))

        self.convs1 = nn.ModuleList(convolution(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(convolution(1) for _ in dilations if paired)
        self.activations = nn.ModuleList(activation(channels) for _ in range(len(dilations) * (1 + paired)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, samples) to the same shape."""
        activations = iter(self.activations)
        for index, conv in enumerate(self.convs1):
            residual = conv(next(activations)(x))
            if self.convs2:
                residual = self.convs2[index](next(activations)(residual))
            x = x + residual
        return x


def context_frames(config: HiFiGANConfig, activation_context: int = 0) -> int:
    """Returns how many frames on either side a frame's samples depend on.

    Args:
        config: the generator's shape.
        activation_context: steps on either side that an activation depends on.
    """
    scale = 1  # steps per frame at the current layer
    context = Fraction(3)  # frames; the first convolution
    for rate, kernel in zip(config.rates, config.kernels, strict=True):
        context += Fraction(-(-(kernel - rate) // 2), rate * scale) + Fraction(1, scale)
        scale *= rate
        stacks = []
        for block_kernel, dilations in zip(config.block_kernels, config.dilations, strict=True):
            half = (block_kernel - 1) // 2
            pairs = half * len(dilations) if config.block == 1 else 0
            activations = len(dilations) * (2 if config.block == 1 else 1)
            stacks.append(half * sum(dilations) + pairs + activation_context * activations)
        context += Fraction(max(stacks), scale)
    return math.ceil(context + Fraction(3 + activation_context, scale))


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
        nn.init.normal_(module.weight, 0.0, 0.01)
