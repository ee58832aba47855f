"""The context network: positions, then blocks of one kind, each with a residual stream as its input and output."""

import torch
from torch import Tensor, nn

from pretrain.encoder.attention import RelativePositionBias
from pretrain.encoder.causal_conv import CausalConvBlock
from pretrain.encoder.config import EncoderConfig
from pretrain.encoder.conformer import ConformerBlock
from pretrain.encoder.position import chunk_ends, positional
from pretrain.encoder.recurrent import RecurrentBlock
from pretrain.encoder.transformer import Scope, TransformerBlock

BLOCKS: dict[str, type[TransformerBlock | ConformerBlock | RecurrentBlock | CausalConvBlock]] = {
    "transformer": TransformerBlock,
    "conformer": ConformerBlock,
    "gru": RecurrentBlock,
    "lstm": RecurrentBlock,
    "conv": CausalConvBlock,
}


class Context(nn.Module):
    """Positions and `depth` blocks; the norm comes before the blocks (post-norm) or after them (pre-norm)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.layer_drop = config.layer_drop
        self.causal = config.causal
        self.position = positional(config)
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.bias = (
            RelativePositionBias(config.heads, config.num_buckets, config.max_distance) if config.gated_bias else None
        )
        self.blocks = nn.ModuleList(BLOCKS[config.context](config, index) for index in range(config.depth))

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
            inner: a list that gets what each block that was not skipped added last to its residual stream.

        Returns:
            `upto + 1` tensors (batch, frames, dim). Frames of padding are unspecified.
        """
        if real is not None:
            x = x.masked_fill(~real[:, :, None], 0.0)
        if self.position is not None:
            x = x + self.position(x, chunk)
        if not self.pre_norm:
            x = self.norm(x)
        x = self.dropout(x)
        bias = None if self.bias is None or upto == 0 else self.bias(x.shape[1])
        scope = Scope(bias, self._mask(x, real, chunk), real, chunk)
        stream = [x]
        for block in self.blocks[:upto]:
            if not (self.training and torch.rand(()) < self.layer_drop):
                x, added = block(x, scope)
                if inner is not None:
                    inner.append(added)
            stream.append(x)
        return stream

    def _mask(self, x: Tensor, real: Tensor | None, chunk: int | None) -> Tensor | None:
        """Return which keys each query may attend to, broadcastable to (batch, heads, queries, keys); None if all."""
        mask = None if real is None else real[:, None, None, :]
        if chunk is None and not self.causal:
            return mask
        frames = torch.arange(x.shape[1], device=x.device)
        ends = frames + 1 if self.causal or chunk is None else chunk_ends(frames, chunk)
        visible = frames < ends[:, None]
        return visible if mask is None else mask & visible
