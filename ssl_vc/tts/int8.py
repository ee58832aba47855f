"""int8 weights: large matrices as one byte per weight and one scale per row, the rest as float16."""

from collections.abc import Mapping

import torch
from torch import Tensor

LARGE = 4096  # elements; smaller tensors stay float16
SCALES = ".scales"  # suffix of the name of a tensor's row scales


def quantize(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns tensors to be stored, of weights of any precision."""
    stored = {}
    for name, tensor in weights.items():
        if tensor.ndim < 2 or tensor.numel() < LARGE:
            stored[name] = tensor.half().contiguous()
            continue
        rows = tensor.float().flatten(1)
        scales = (rows.abs().amax(1, keepdim=True) / 127).clamp(min=1e-8)
        stored[name] = (rows / scales).round().to(torch.int8).view_as(tensor)
        stored[f"{name}{SCALES}"] = scales[:, 0].float()
    return stored


def dequantize(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of stored tensors, in float32; copies, as stored ones may be mapped from a file."""
    weights = {}
    for name, tensor in stored.items():
        if name.endswith(SCALES):
            continue
        scales = stored.get(f"{name}{SCALES}")
        values = tensor.to(torch.float32, copy=True)
        weights[name] = values if scales is None else (values.flatten(1) * scales[:, None]).view_as(values)
    return weights
