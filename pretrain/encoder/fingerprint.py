"""Fingerprints of encoders: what voices and other files store, to tell which encoder their frames come from."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor

from pretrain.encoder.config import EncoderConfig

# settings that change the frames without changing the shapes of the weights
SHAPELESS_SETTINGS = ("frontend", "conv_norm", "heads", "pre_norm", "max_distance", "context", "causal")


def fingerprint(config: EncoderConfig, weights: Mapping[str, Tensor]) -> str:
    """Return 16 hex digits: a hash of the architecture and the weights, as float32.

    A new field of the config may enter only where it differs from its default, or every existing file is refused.
    """
    default = EncoderConfig()
    settings = {name: getattr(config, name) for name in SHAPELESS_SETTINGS}
    settings = {name: value for name, value in settings.items() if value != getattr(default, name)}
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8)
    for key, value in sorted(weights.items()):
        digest.update(f"{key} {tuple(value.shape)}".encode())
        digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()
