"""Weights of judges: where they are, and a short name of what is in them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from ssl_vc.hub.registry import in_hub_cache


def here(name: str, offline: bool) -> str:
    """Give what transformers shall load; offline, a hub id's folder, since of an id it asks the hub in any case."""
    return str(in_hub_cache(name)) if offline and not Path(name).is_dir() else name


def fingerprint(model: torch.nn.Module, but: Sequence[str] = ()) -> str:
    """Give a short name of a model's weights, without those whose names begin in a way that does not matter."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if not key.startswith(tuple(but)):
            digest.update(key.encode())
            digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
