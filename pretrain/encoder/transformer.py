"""The transformer over frames: positional convolution, then blocks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.encoder.attention import RelativePositionBias, SelfAttention
from pretrain.encoder.config import EncoderConfig
from pretrain.encoder.position import chunk_ends, positional


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

    def forward(self, x: Tensor, bias: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the next residual stream (batch, frames, dim), and the feed-forward output that was added to it.

        See `SelfAttention` for the arguments.
        """
        if self.pre_norm:
            x = x + self.dropout(self.attention(self.attention_norm(x), bias, mask))
            inner = self._feed_forward(self.ffn_norm(x))
            return x + inner, inner
        x = self.attention_norm(x + self.dropout(self.attention(x, bias, mask)))
        inner = self._feed_forward(x)
        return self.ffn_norm(x + inner), inner

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.narrow(self.activation_dropout(F.gelu(self.widen(x)))))


class Transformer(nn.Module):
    """Positional convolution and `depth` blocks; the norm comes before them (post-norm) or after them (pre-norm)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.layer_drop = config.layer_drop
        self.position = positional(config)
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.bias = (
            RelativePositionBias(config.heads, config.num_buckets, config.max_distance) if config.gated_bias else None
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))

    def forward(
        self,
        x: Tensor,
        real: Tensor | None,
        upto: int,
        chunk: int | None = None,
        inner: list[Tensor] | None = None,
    ) -> list[Tensor]:
        """Return the residual stream before the blocks and after each of the first `upto`.

        Args:
            x: (batch, frames, dim).
            real: (batch, frames), False where a frame is padding; None if none is.
            upto: the last layer to compute.
            chunk: frames of the chunks beyond whose end a frame sees nothing (Zhang et al., 2020, "Unified Streaming
                and Non-streaming Two-pass End-to-end Model for Speech Recognition", arXiv 2012.05481); all if None.
            inner: a list that gets the feed-forward output of each block that was not skipped.

        Returns:
            `upto + 1` tensors (batch, frames, dim). Frames of padding are unspecified.
        """
        if real is not None:
            x = x.masked_fill(~real[:, :, None], 0.0)
        x = x + self.position(x, chunk)
        if not self.pre_norm:
            x = self.norm(x)
        x = self.dropout(x)
        bias = None if self.bias is None or upto == 0 else self.bias(x.shape[1])
        mask = None if real is None else real[:, None, None, :]
        if chunk is not None:
            frames = torch.arange(x.shape[1], device=x.device)
            visible = frames < chunk_ends(frames, chunk)[:, None]
            mask = visible if mask is None else mask & visible
        stream = [x]
        for block in self.blocks[:upto]:
            if not (self.training and torch.rand(()) < self.layer_drop):
                x, added = block(x, bias, mask)
                if inner is not None:
                    inner.append(added)
            stream.append(x)
        return stream
