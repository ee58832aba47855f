"""Location and fingerprint of the weights of judges."""

import hashlib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ssl_vc.hub.registry import in_hub_cache


def local_path(name: str, offline: bool) -> str:
    """Returns the argument for transformers; offline, a hub id's cache folder, since it queries the hub for an id."""
    return str(in_hub_cache(name)) if offline and not Path(name).is_dir() else name


def import_transformers(name: str) -> Any:
    """Return the package `transformers`, which loads the model `name`; raises ValueError where it is missing."""
    try:
        return import_module("transformers")
    except ModuleNotFoundError:
        raise ValueError(f"{name} needs transformers, which is not installed; pip install 'ssl-vc[eval]'.") from None


def fingerprint(model: torch.nn.Module, exclude: Sequence[str] = ()) -> str:
    """Returns a hash of a model's weights, without those whose names have an excluded prefix."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if not key.startswith(tuple(exclude)):
            digest.update(key.encode())
            digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
