"""What training loops share: the optimizer step, the moving average of the weights, and loading a checkpoint."""

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn


def optimize(
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: AcceleratedOptimizer,
    loss: Tensor,
    learning_rate: float,
    max_norm: float,
    name: str = "the loss",
) -> None:
    """Take one optimizer step, with gradients clipped to `max_norm` unless it is 0; refuse a non-finite loss."""
    if not torch.isfinite(loss):
        cure = "a lower learning_rate" if max_norm else "a lower learning_rate, or with max_norm=1"
        raise ValueError(f"{name} is {loss.item()}; restart from the last checkpoint, if any, with {cure}.")
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad()
    accelerator.backward(loss)
    if max_norm:
        accelerator.clip_grad_norm_(network.parameters(), max_norm)
    optimizer.step()


def update_ema(average: dict[str, Tensor], network: nn.Module, decay: float, step: int) -> None:
    """Update the exponential moving average of a network's weights in place; decay 0 copies them."""
    # less in the first steps, to forget the random start
    decay = min(decay, (1 + step) / (10 + step)) if decay else 0.0
    for name, value in network.state_dict().items():
        average[name].lerp_(value, 1 - decay)


def save_checkpoint(state: dict[str, Any], file: Path) -> None:
    """Write a training's state."""
    try:
        with file.open("wb") as stream:  # given a path, torch does not say why it failed
            torch.save(state, stream)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch fails again when it closes the file
        if not isinstance(cause, OSError):
            raise
        raise OSError(f"{file} cannot be written: {cause.strerror or cause}; check its disk.") from error


def load_checkpoint(file: Path, device: torch.device) -> dict[str, Any]:
    """Returns a training's state, empty if there is no such file."""
    if not file.is_file():
        return {}
    try:
        state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # a broken zip, a truncated pickle
        raise ValueError(f"{file} cannot be read ({error}); start in another folder.") from None
    return state
