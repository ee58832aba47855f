"""Conformer blocks: attention and a depthwise convolution between two half feed-forward parts.

Gulati et al., 2020, "Conformer: Convolution-augmented Transformer for Speech Recognition", arXiv 2005.08100. Positions
are those of the encoder (a positional convolution, or WavLM's bias) rather than Transformer-XL's; and the convolution
is normalised over the channels rather than over the batch, so that a frame does not depend on the other clips.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.encoder.attention import SelfAttention
from pretrain.encoder.config import EncoderConfig
from pretrain.encoder.position import convolve, convolve_causally
from pretrain.encoder.transformer import Scope


class ConformerBlock(nn.Module):
    """Half feed-forward, attention, convolution and half feed-forward, each added to the residual stream; a norm."""

    def __init__(self, config: EncoderConfig, index: int = 0) -> None:
        super().__init__()
        dim, dropout = config.dim, config.dropout
        self.first = FeedForward(dim, config.ffn_dim, dropout, config.activation_dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, config.heads, config.attention_dropout, config.gated_bias)
        self.convolution = ConvolutionModule(dim, config.conv_kernel, dropout, config.causal)
        self.second = FeedForward(dim, config.ffn_dim, dropout, config.activation_dropout)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    @property
    def output_bias(self) -> nn.Parameter:
        """The parameter that is added last to the output (dim,)."""
        return self.norm.bias

    def forward(self, x: Tensor, scope: Scope) -> tuple[Tensor, Tensor]:
        """Return the next residual stream (batch, frames, dim), and the feed-forward output that was added to it."""
        x = x + 0.5 * self.first(x)
        x = x + self.dropout(self.attention(self.attention_norm(x), scope.bias, scope.mask))
        x = x + self.convolution(x, scope)
        inner = 0.5 * self.second(x)
        return self.norm(x + inner), inner


class FeedForward(nn.Module):
    """A norm and two linear layers, with Swish between them."""

    def __init__(self, dim: int, width: int, dropout: float, activation_dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, width)
        self.narrow = nn.Linear(width, dim)
        self.dropout = nn.Dropout(dropout)
        self.activation_dropout = nn.Dropout(activation_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, frames, dim) to the same shape."""
        return self.dropout(self.narrow(self.activation_dropout(F.silu(self.widen(self.norm(x))))))


class ConvolutionModule(nn.Module):
    """A gated linear layer, a depthwise convolution over the frames, and a linear layer."""

    def __init__(self, dim: int, kernel: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 2 * dim, bias=False)
        padding = 0 if causal else kernel // 2
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=padding, groups=dim, bias=False)
        self.depthwise_norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.causal = causal

    def forward(self, x: Tensor, scope: Scope) -> Tensor:
        """Map (batch, frames, dim) to the same shape."""
        x = F.glu(self.gate(self.norm(x)), -1)
        if scope.real is not None:
            x = x.masked_fill(~scope.real[:, :, None], 0.0)  # as the convolution pads
        x = convolve_causally(self.depthwise, x) if self.causal else convolve(self.depthwise, x, scope.chunk)
        return self.dropout(self.out(F.silu(self.depthwise_norm(x))))
