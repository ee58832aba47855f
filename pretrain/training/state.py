"""The state of a training in one file, the same for one process, DDP and FSDP."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer


def gather(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Give the whole weights and the optimizer's state (None before its first step), on the CPU; all must ask."""
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    if not optimizer.state:  # torch would take a step of nothing to have a state, and count it
        return cast(dict[str, Tensor], get_model_state_dict(model, options=whole)), None
    weights, moments = get_state_dict(model, optimizer, options=whole)
    return cast(dict[str, Tensor], weights), moments


def write(file: Path, state: dict[str, Any]) -> None:
    """Write a state, whole or not at all."""
    partial = file.with_name(f".{file.name}.part")
    torch.save(state, partial)
    partial.replace(file)


def read(file: Path, model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Give a model and its optimizer the state of a file, and return what else the file holds."""
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken zip, a truncated pickle
        reason = (str(error) or "it is empty").splitlines()[0]
        raise ValueError(f"{file} cannot be read ({reason}); begin in another folder.") from None
    whole = StateDictOptions(full_state_dict=True)
    weights, moments = state.pop("weights"), state.pop("optimizer")
    try:
        if moments is None:
            set_model_state_dict(model, weights, options=whole)
            optimizer.state.clear()
        else:
            set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=whole)
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file} holds a training of another shape ({reason}); begin in another folder.") from None
    return state
