"""Recurrent blocks: a GRU or an LSTM each.

As in CPC (van den Oord et al., 2018, arXiv 1807.03748) and APC (Chung et al., 2019, arXiv 1904.03240).
"""

from torch import Tensor, nn

from pretrain.encoder.config import EncoderConfig
from pretrain.encoder.transformer import Scope


class RecurrentBlock(nn.Module):
    """A recurrent layer, added to its input in all blocks but the first (as in APC, and in CPC's single one)."""

    output_bias = None

    def __init__(self, config: EncoderConfig, index: int) -> None:
        super().__init__()
        kind = nn.LSTM if config.context == "lstm" else nn.GRU
        self.recurrent = kind(config.dim, config.dim, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.residual = index > 0

    def forward(self, x: Tensor, scope: Scope) -> tuple[Tensor, Tensor]:
        """Return the next stream (batch, frames, dim), and what was added to it."""
        inner = self.dropout(self.recurrent(x)[0])
        return (x + inner if self.residual else inner), inner
