"""A training's checkpoint in one file, the same for one process, DDP and FSDP."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

OLD_KEYS = {"slower": "lr_scale", "averaged": "ema"}  # earlier checkpoints' names -> today's
OLD_PREFIXES = {"speller.": "ctc_head."}  # of weights


def gather(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Return the full weights and optimizer state (None before its first step) on the CPU; every rank must call it."""
    full = StateDictOptions(full_state_dict=True, cpu_offload=True)
    if not optimizer.state:  # torch would initialise it by a step with zero gradients, which counts
        return cast(dict[str, Tensor], get_model_state_dict(model, options=full)), None
    weights, optimizer_state = get_state_dict(model, optimizer, options=full)
    return cast(dict[str, Tensor], weights), optimizer_state


def save(file: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    partial = file.with_name(f".{file.name}.part")
    try:
        with partial.open("wb") as stream:  # given a path, torch does not say why it failed
            torch.save(state, stream)
        partial.replace(file)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__  # torch fails again when it closes the file
        if not isinstance(cause, OSError):
            raise
        raise OSError(f"{file} cannot be written: {cause.strerror or cause}; check its disk.") from error


def load(file: Path, model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Restore a model and its optimizer from a file, and return the rest of the checkpoint."""
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken zip, a truncated pickle
        reason = (str(error) or "it is empty").splitlines()[0]
        raise ValueError(f"{file} cannot be read ({reason}); start in another folder.") from None
    state = {OLD_KEYS.get(key, key): value for key, value in state.items()}
    full = StateDictOptions(full_state_dict=True)
    weights, optimizer_state = _renamed(state.pop("weights")), state.pop("optimizer")
    try:
        if optimizer_state is None:
            set_model_state_dict(model, weights, options=full)
            optimizer.state.clear()
        else:
            optimizer_state["state"] = _renamed(optimizer_state["state"])
            for group in optimizer_state["param_groups"]:
                group["params"] = [_new_name(name) for name in group["params"]]
            set_model_state_dict(model, weights, options=full)
            # not every method trains every weight: BEST-RQ, for example, has no use for the mask embedding
            lenient = StateDictOptions(full_state_dict=True, strict=False)
            set_optimizer_state_dict(model, optimizer, optimizer_state, options=lenient)
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file} is a checkpoint of another model ({reason}); start in another folder.") from None
    return state


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    return {_new_name(name): value for name, value in values.items()}


def _new_name(name: str) -> str:
    for old, new in OLD_PREFIXES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
