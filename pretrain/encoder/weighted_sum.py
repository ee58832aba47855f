"""The weighted sum of an encoder's layers that downstream heads learn."""

import torch
from torch import Tensor, nn


class WeightedSum(nn.Module):
    """A learned weighted sum of layers (as in SUPERB): softmax weights over layers 0 .. `depth`."""

    def __init__(self, depth: int, normalized: bool = False) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(depth + 1))
        self.normalized = normalized  # scale each layer first, as their norms differ much

    def forward(self, layers: list[Tensor]) -> Tensor:
        """Sum layers (batch, frames, dim) into one."""
        if len(layers) != len(self.weights):
            raise ValueError(f"got {len(layers)} layers; this sum weighs {len(self.weights)}.")
        if self.normalized:
            layers = [nn.functional.layer_norm(layer, layer.shape[-1:]) for layer in layers]
        return torch.einsum("l,lbtd->btd", self.weights.softmax(0), torch.stack(layers))
