"""The transformer over frames: positional convolution, then blocks."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from pretrain.encoder.attention import RelativePositionBias, SelfAttention
from pretrain.encoder.config import EncoderConfig


class PositionalConv(nn.Module):
    """A wide grouped convolution as relative position embedding (wav2vec 2.0)."""

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        nn.init.normal_(conv.weight, std=math.sqrt(4.0 / (kernel * dim)))
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        self.conv = weight_norm(conv, dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, frames, dim) to the same shape."""
        # an even kernel with padding kernel / 2 yields one extra frame, at the end
        return F.gelu(self.conv(x.transpose(1, 2))[:, :, : x.shape[1]]).transpose(1, 2)


class Block(nn.Module):
    """Attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.attention = SelfAttention(config.dim, config.heads, config.attention_dropout, config.gated_bias)
        self.attention_norm = nn.LayerNorm(config.dim)
        self.widen = nn.Linear(config.dim, config.ffn_dim)
        self.narrow = nn.Linear(config.ffn_dim, config.dim)
        self.ffn_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.activation_dropout = nn.Dropout(config.activation_dropout)

    def forward(self, x: Tensor, bias: Tensor | None, real: Tensor | None) -> Tensor:
        """Map the residual stream (batch, frames, dim) to the next; see `SelfAttention` for `bias` and `real`."""
        if self.pre_norm:
            x = x + self.dropout(self.attention(self.attention_norm(x), bias, real))
            return x + self._feed_forward(self.ffn_norm(x))
        x = self.attention_norm(x + self.dropout(self.attention(x, bias, real)))
        return self.ffn_norm(x + self._feed_forward(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.narrow(self.activation_dropout(F.gelu(self.widen(x)))))


class Transformer(nn.Module):
    """Positional convolution and `depth` blocks; the norm comes before them (post-norm) or after them (pre-norm)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.layer_drop = config.layer_drop
        self.position = PositionalConv(config.dim, config.pos_kernel, config.pos_groups)
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.bias = (
            RelativePositionBias(config.heads, config.num_buckets, config.max_distance) if config.gated_bias else None
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))

    def forward(self, x: Tensor, real: Tensor | None, upto: int) -> list[Tensor]:
        """Return the residual stream before the blocks and after each of the first `upto`.

        Args:
            x: (batch, frames, dim).
            real: (batch, frames), False where a frame is padding; None if none is.
            upto: the last layer to compute.

        Returns:
            `upto + 1` tensors (batch, frames, dim). Frames of padding are unspecified.
        """
        if real is not None:
            x = x.masked_fill(~real[:, :, None], 0.0)
        x = x + self.position(x)
        if not self.pre_norm:
            x = self.norm(x)
        x = self.dropout(x)
        bias = None if self.bias is None or upto == 0 else self.bias(x.shape[1])
        stream = [x]
        for block in self.blocks[:upto]:
            if not (self.training and torch.rand(()) < self.layer_drop):
                x = block(x, bias, real)
            stream.append(x)
        return stream
