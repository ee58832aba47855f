"""Relative positions by grouped convolutions over the frames, which are added to them."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from pretrain.encoder.config import EncoderConfig


class WeightNormConv1d(nn.Conv1d):
    """A convolution under weight norm that can be pickled, as torch's parametrizations themselves cannot."""

    def __reduce__(self) -> tuple[Any, ...]:
        # the hook, a local function, reads weights under their former names; a new convolution has its own
        hooks = "_load_state_dict_pre_hooks"
        return _without_weights, (), {name: value for name, value in vars(self).items() if name != hooks}


def _without_weights() -> nn.Conv1d:
    conv: nn.Conv1d = weight_norm(WeightNormConv1d(1, 1, 1, device="meta"), dim=2)
    return conv


class PositionalConv(nn.Module):
    """One wide convolution (wav2vec 2.0)."""

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        conv = WeightNormConv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        nn.init.normal_(conv.weight, std=math.sqrt(4.0 / (kernel * dim)))
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        self.conv: nn.Conv1d = weight_norm(conv, dim=2)

    def forward(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """Map (batch, frames, dim) to the same shape; with a `chunk`, as if the input ended with each frame's chunk."""
        return F.gelu(convolve(self.conv, x, chunk))


class PositionalStack(nn.Module):
    """Several narrower convolutions, each normalised over the channels (data2vec)."""

    def __init__(self, dim: int, kernel: int, groups: int, depth: int) -> None:
        super().__init__()
        kernel = max(3, kernel // depth)
        self.convs = nn.ModuleList(
            nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups) for _ in range(depth)
        )

    def forward(self, x: Tensor, chunk: int | None = None) -> Tensor:
        """Map (batch, frames, dim) to the same shape; see `PositionalConv`."""
        for conv in self.convs:
            assert isinstance(conv, nn.Conv1d)
            x = F.gelu(F.layer_norm(convolve(conv, x, chunk), x.shape[-1:]))
        return x


def positional(config: EncoderConfig) -> PositionalConv | PositionalStack | None:
    """Return the convolutions of a config, if it has any."""
    if config.position == "none":
        return None
    if config.pos_depth == 1:
        return PositionalConv(config.dim, config.pos_kernel, config.pos_groups)
    return PositionalStack(config.dim, config.pos_kernel, config.pos_groups, config.pos_depth)


def convolve(conv: nn.Conv1d, x: Tensor, chunk: int | None) -> Tensor:
    """Convolve (batch, frames, dim) over the frames; in a chunk, as if there was nothing beyond its end."""
    if chunk is None:
        # an even kernel with padding kernel / 2 yields one extra frame, at the end
        return conv(x.transpose(1, 2))[:, :, : x.shape[1]].transpose(1, 2)
    weight = rearrange(conv.weight, "(group out) width kernel -> group out width kernel", group=conv.groups)
    kernel = weight.shape[-1]
    before, frames = kernel // 2, torch.arange(x.shape[1], device=x.device)
    inputs = F.pad(x, (0, 0, before, kernel - before - 1)).unfold(1, kernel, 1)
    position = frames[:, None] + torch.arange(kernel, device=x.device) - before
    inputs = inputs * (position < chunk_ends(frames, chunk)[:, None])[None, :, None]
    inputs = rearrange(inputs, "batch time (group width) kernel -> batch time group width kernel", group=conv.groups)
    outputs = torch.einsum("btgik,goik->btgo", inputs, weight).flatten(2)
    return outputs if conv.bias is None else outputs + conv.bias


def convolve_causally(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Convolve (batch, frames, dim) over each frame and those before it, by a convolution without padding."""
    return conv(F.pad(x.transpose(1, 2), (conv.kernel_size[0] - 1, 0))).transpose(1, 2)


def chunk_ends(frames: Tensor, chunk: int) -> Tensor:
    """Return where the chunk of each frame ends (frames,)."""
    return (frames // chunk + 1) * chunk
