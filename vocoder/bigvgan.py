"""BigVGAN: HiFi-GAN's shape with anti-aliased periodic activations.

Lee, Ping, Ginsburg, Catanzaro and Yoon, 2023, "BigVGAN: A Universal Neural Vocoder with Large-Scale Training",
arXiv 2206.04658. Plain torch: no CUDA kernel to build.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from vocoder.antialias import AntiAliasedActivation, Snake
from vocoder.foreign import build, mel_from_settings, read_checkpoint, rename_weights, shape_from_weights
from vocoder.hifigan import HiFiGAN, HiFiGANConfig
from vocoder.mel import Mel


@dataclass(frozen=True)
class BigVGANConfig(HiFiGANConfig):
    """The shape of a `BigVGAN`: HiFi-GAN's, and the activation. The defaults are version 2's.

    Attributes:
        snake_beta: whether the activation learns its amplitude separately (version 2).
        log_scale: whether the activation's weights are logarithms.
        tanh: whether the output is bounded by tanh (version 1) or clipped at ±1 (version 2).
        final_bias: whether the last convolution has a bias (version 1).
    """

    kind: str = "bigvgan"
    snake_beta: bool = True
    log_scale: bool = True
    tanh: bool = False
    final_bias: bool = False


class BigVGAN(HiFiGAN):
    """BigVGAN generator: (batch, frames, dim) to (batch, frames * hop_length)."""

    ACTIVATION_CONTEXT = AntiAliasedActivation.CONTEXT
    config: BigVGANConfig

    def __init__(self, config: BigVGANConfig | None = None) -> None:
        super().__init__(config or BigVGANConfig())
        self.activation_post = self._activation(self.conv_post.in_channels)

    @classmethod
    def from_foreign(cls, source: str | Path, config: HiFiGANConfig | Mapping[str, Any] | None = None) -> Self:
        """Load NVIDIA's `bigvgan_generator.pt`, or its folder; for `config` see `HiFiGAN.from_foreign`."""
        file = Path(source) / "bigvgan_generator.pt" if Path(source).is_dir() else Path(source)
        weights, settings = read_checkpoint(file, "generator")
        # the filters are computed, not learned
        weights = {key: value for key, value in rename_weights(weights).items() if not key.endswith(".filter")}
        if isinstance(config, HiFiGANConfig):
            return build(cls, config, weights, source)
        settings = dict(config or settings)
        shape = shape_from_weights(weights, settings)
        mel = mel_from_settings(settings, weights["conv_pre.weight"].shape[1])
        config = BigVGANConfig(
            **shape,
            dim=mel.bands,
            projection=0,
            sample_rate=mel.sample_rate,
            reads=Mel(mel).reads,
            snake_beta="activation_post.act.beta" in weights,
            log_scale=settings.get("snake_logscale", True),
            tanh=settings.get("use_tanh_at_final", "conv_post.bias" in weights),
            final_bias="conv_post.bias" in weights,
        )
        return build(cls, config, weights, source)

    def _activation(self, channels: int) -> AntiAliasedActivation:
        return AntiAliasedActivation(Snake(channels, self.config.snake_beta, self.config.log_scale))

    def _before_up(self, x: Tensor) -> Tensor:
        return x

    def _finish(self, x: Tensor) -> Tensor:
        x = self.conv_post(self.activation_post(x))
        return torch.tanh(x) if self.config.tanh else x.clamp(-1.0, 1.0)
