"""Location and fingerprint of the weights of judges."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from ssl_vc.hub.registry import in_hub_cache


def local_path(name: str, offline: bool) -> str:
    """Returns the argument for transformers; offline, a hub id's cache folder, since it queries the hub for an id."""
    return str(in_hub_cache(name)) if offline and not Path(name).is_dir() else name


def fingerprint(model: torch.nn.Module, exclude: Sequence[str] = ()) -> str:
    """Returns a hash of a model's weights, without those whose names have an excluded prefix."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if not key.startswith(tuple(exclude)):
            digest.update(key.encode())
            digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
