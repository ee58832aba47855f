"""The context network of wav2vec: causal convolutions of growing kernels (Schneider et al., 2019, arXiv 1904.05862).

    frames    . . . x x x         kernel 2 in the first block, 3 in the second, and so on
    output              y         sees no later frame

Norms are over the channels: the published ones are also over the whole clip, and so see later frames.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.encoder.config import EncoderConfig
from pretrain.encoder.position import convolve_causally
from pretrain.encoder.transformer import Scope

SKIP = 0.5**0.5  # keeps the variance of the sum of two


class CausalConvBlock(nn.Module):
    """A convolution over each frame and those before it, with a skip connection."""

    output_bias = None

    def __init__(self, config: EncoderConfig, index: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(config.dim, config.dim, index + 2)
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, scope: Scope) -> tuple[Tensor, Tensor]:
        """Return the next stream (batch, frames, dim), and what was added to it."""
        inner = F.relu(self.norm(self.dropout(convolve_causally(self.conv, x))))
        return (x + inner) * SKIP, inner
