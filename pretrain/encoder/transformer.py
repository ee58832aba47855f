"""The blocks of a transformer, and what they may see."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.encoder.attention import SelfAttention
from pretrain.encoder.config import EncoderConfig


class Scope(NamedTuple):
    """What the frames of a batch may see of each other.

    Attributes:
        bias: on attention, from `RelativePositionBias`; None without.
        mask: of the keys that a query may attend to, broadcastable to (batch, heads, queries, keys); all if None.
        real: (batch, frames), False where a frame is padding; None if none is.
        chunk: frames of the chunks beyond whose end a frame sees nothing; unlimited if None.
    """

    bias: Tensor | None
    mask: Tensor | None
    real: Tensor | None
    chunk: int | None


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: EncoderConfig, index: int = 0) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.attention = SelfAttention(config.dim, config.heads, config.attention_dropout, config.gated_bias)
        self.attention_norm = nn.LayerNorm(config.dim)
        self.widen = nn.Linear(config.dim, config.ffn_dim)
        self.narrow = nn.Linear(config.ffn_dim, config.dim)
        self.ffn_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.activation_dropout = nn.Dropout(config.activation_dropout)

    @property
    def output_bias(self) -> nn.Parameter:
        """The parameter that is added last to the output (dim,)."""
        return self.narrow.bias if self.pre_norm else self.ffn_norm.bias

    def forward(self, x: Tensor, scope: Scope) -> tuple[Tensor, Tensor]:
        """Return the next residual stream (batch, frames, dim), and the feed-forward output that was added to it."""
        if self.pre_norm:
            x = x + self.dropout(self.attention(self.attention_norm(x), scope.bias, scope.mask))
            inner = self._feed_forward(self.ffn_norm(x))
            return x + inner, inner
        x = self.attention_norm(x + self.dropout(self.attention(x, scope.bias, scope.mask)))
        inner = self._feed_forward(x)
        return self.ffn_norm(x + inner), inner

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.narrow(self.activation_dropout(F.gelu(self.widen(x)))))
