"""Self-attention, plain or with WavLM's gated relative position bias."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def relative_buckets(delta: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Map each distance (key - query, in frames) to its row of the bias table.

    Half of the rows are for keys to the right. In each half, the first rows are for single distances, the
    others for ranges that grow logarithmically up to `max_distance`.
    """
    half = num_buckets // 2
    exact = half // 2
    distance = delta.abs()
    growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (growth * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(delta > 0, half, 0) + torch.where(distance < exact, distance, far)


class RelativePositionBias(nn.Module):
    """The table of position biases that all blocks share; each block has its own gate."""

    def __init__(self, heads: int, num_buckets: int, max_distance: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_buckets, heads)
        self.max_distance = max_distance
        nn.init.xavier_normal_(self.table.weight)

    def forward(self, frames: int) -> Tensor:
        """Return the bias (heads, query frames, key frames)."""
        delta = torch.arange(1 - frames, frames, device=self.table.weight.device)
        by_delta = self.table(relative_buckets(delta, self.table.num_embeddings, self.max_distance)).T
        # row i of the bias is the run of `frames` distances that begins at -i
        return by_delta.unfold(1, frames, 1).flip(1)


class SelfAttention(nn.Module):
    """Multi-head self-attention; `gated` adds WavLM's gate on the position bias (2110.13900, section 3.1)."""

    def __init__(self, dim: int, heads: int, dropout: float, gated: bool) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.gate = nn.Linear(dim // heads, 8) if gated else None
        self.gate_scale = nn.Parameter(torch.ones(heads)) if gated else None

    def forward(self, x: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
        """Attend within each row.

        Args:
            x: (batch, frames, dim).
            bias: (heads, frames, frames) from `RelativePositionBias`, if gated.
            mask: of the keys that a query may attend to, broadcastable to (batch, heads, queries, keys); all if None.

        Returns:
            (batch, frames, dim)
        """
        if bias is not None:
            logits = self._gate(x) * bias
            mask = logits if mask is None else logits.masked_fill(~mask, float("-inf"))
        query, key, value = (self._split(part(x)) for part in (self.query, self.key, self.value))
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.out(rearrange(attended, "batch heads frames dim -> batch frames (heads dim)"))

    def _split(self, x: Tensor) -> Tensor:
        return rearrange(x, "batch frames (heads dim) -> batch heads frames dim", heads=self.heads)

    def _gate(self, x: Tensor) -> Tensor:
        """Return the weight of the bias for each query (batch, heads, frames, 1)."""
        assert self.gate is not None
        assert self.gate_scale is not None
        # the eight outputs are used only as two sums of four, so sum the weights instead
        weight = self.gate.weight.unflatten(0, (2, 4)).sum(1)
        offset = self.gate.bias.unflatten(0, (2, 4)).sum(1)
        update, reset = torch.sigmoid(F.linear(self._split(x), weight, offset)).unbind(-1)
        return (update * (reset * self.gate_scale[:, None] - 1.0) + 2.0)[..., None]
