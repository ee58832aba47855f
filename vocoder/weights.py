"""Weights: read from a file, and put into a network that a config describes.

A config may claim any size. So a network is built within the size of its weights: where it needs more, it is refused
before the memory is allocated.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vocoder.files import require_file

Network = TypeVar("Network", bound=nn.Module)
SPARE = 2**22  # numbers of a network that are computed instead of loaded: windows, filters, noise
TENSOR = 4096  # numbers that a tensor and its module cost besides
FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.hann_window)


class _Within(TorchFunctionMode):
    """Build a network no larger than its weights.

    (The `meta` device would not stop at a million layers, and initialising tensors there imports the compiler.)
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.left = SPARE + sum(TENSOR + value.numel() for value in weights.values())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse what creates too much; call everything else."""
        kwargs = kwargs or {}
        if func in FACTORIES or func is Tensor.clone:
            self.left -= TENSOR + _size(args[0] if args else kwargs["size"], args)
            if self.left < 0:
                raise ValueError("the config describes a larger network than these weights make")
        return func(*args, **kwargs)


def _size(first: Any, args: tuple[Any, ...]) -> int:
    """Return how many numbers the arguments of a factory, or of `clone`, ask for."""
    if isinstance(first, Tensor):
        return first.numel()
    size = 1
    for number in args if isinstance(first, int) else first:
        size *= int(number)
    return size


def read_weights(file: str | Path, device: str = "cpu") -> dict[str, Tensor]:
    """Return the tensors of a safetensors file in float32; they are copies, as the file may change."""
    stored = load_file(require_file(file), device=device)
    return {key: value.to(torch.float32, copy=True) for key, value in stored.items()}


def require_finite(weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError for a weight that is NaN or infinite."""
    for key, value in weights.items():
        # the sum takes an eighth of the time of `isfinite`, and is finite only if all are
        if not (value.sum().isfinite() or value.isfinite().all()):
            raise ValueError(f"the weight {key} is NaN or infinite; the file is damaged, or its training failed")


def build(make: Callable[[], Network], weights: Mapping[str, Tensor]) -> Network:
    """Return the network that `make` makes as its config says, with these weights; raise ValueError unless they fit."""
    with _Within(weights):
        network = make()
    wanted = network.state_dict()
    for key in sorted(wanted.keys() | weights.keys()):
        has, wants = (None if key not in of else tuple(of[key].shape) for of in (weights, wanted))
        if has != wants:
            raise ValueError(f"the weight {key} has shape {has}; the config requires {wants}")
    network.load_state_dict(weights)
    return network
