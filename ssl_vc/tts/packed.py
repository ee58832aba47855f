"""Packed weights: a quarter of their size, every row of a large matrix in whole numbers from -127 to 127."""

from collections.abc import Mapping

import torch
from torch import Tensor

LARGE = 4096  # numbers; smaller tensors keep 16 bits
SCALES = ".scales"  # behind a tensor's name: what its rows' numbers are times of


def pack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give tensors to be written, of tensors of any precision."""
    packed = {}
    for name, tensor in weights.items():
        if tensor.ndim < 2 or tensor.numel() < LARGE:
            packed[name] = tensor.half().contiguous()
            continue
        rows = tensor.float().flatten(1)
        scales = (rows.abs().amax(1, keepdim=True) / 127).clamp(min=1e-8)
        packed[name] = (rows / scales).round().to(torch.int8).view_as(tensor)
        packed[f"{name}{SCALES}"] = scales[:, 0].float()
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors again, in float32."""
    weights = {}
    for name, tensor in packed.items():
        if name.endswith(SCALES):
            continue
        scales = packed.get(f"{name}{SCALES}")
        whole = tensor.float()
        weights[name] = whole if scales is None else (whole.flatten(1) * scales[:, None]).view_as(whole)
    return weights
