"""Duration: the predictor of how many frames each symbol lasts, and the repetition of symbols by duration."""

import torch
from torch import Tensor, nn

from ssl_vc.tts.convnext import convnext_blocks
from vocoder.vocos import ConvNeXtBlock


class DurationPredictor(nn.Module):
    """Predicts log durations from hidden states.

    Args:
        width: of the hidden states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([*convnext_blocks(width, 2), nn.LayerNorm(width), nn.Linear(width, 1)])

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map hidden states (batch, symbols, width), where the mask is set, to log durations (batch, symbols)."""
        for layer in self.layers:
            hidden = layer(hidden * mask) if isinstance(layer, ConvNeXtBlock) else layer(hidden)
        return hidden[..., 0]


def repeat_by_duration(symbols: Tensor, durations: Tensor) -> Tensor:
    """Repeat symbols (batch, symbols, dim) by their durations (batch, symbols) to frames (batch, max frames, dim)."""
    ends = durations.cumsum(1)
    frame = torch.arange(int(ends[:, -1].max()), device=symbols.device)
    index = torch.searchsorted(ends, frame.expand(len(symbols), -1).contiguous(), right=True)
    mask = index < symbols.shape[1]
    index = index.clamp(max=symbols.shape[1] - 1)[..., None].expand(-1, -1, symbols.shape[2])
    return symbols.gather(1, index) * mask[..., None]
