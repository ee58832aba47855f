"""The encoder that a training starts from."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from pretrain.encoder import EncoderConfig, SpeechEncoder
from pretrain.encoder.foreign import is_foreign
from pretrain.recipe import CODES

log = logging.getLogger(__name__)


def load_encoder(name: str | Path) -> SpeechEncoder:
    """Load an encoder in our format, or a published one."""
    if Path(name).is_dir() and not is_foreign(name):
        return SpeechEncoder.from_pretrained(name)
    return SpeechEncoder.from_foreign(name)


def initial_encoder(start: str, shape: EncoderConfig) -> SpeechEncoder:
    """Return a random encoder, or one by name, with untrained blocks if `shape` is deeper; see `recipe.Iteration`."""
    if not start:
        return SpeechEncoder(shape)
    encoder = load_encoder(start.removesuffix(CODES))
    if start.endswith(CODES):
        return _with_codes(encoder, shape, start)
    if shape.depth > encoder.config.depth:
        log.info("%d untrained blocks are added to %s", shape.depth - encoder.config.depth, start)
        encoder = encoder.with_blocks(shape.depth)
    recommendations: dict[str, Any] = {"matching_layer": None, "cepstra": 0.0}
    if replace(encoder.config, **recommendations) != replace(shape, **recommendations):
        log.info("the training keeps the architecture of %s", start)
    return encoder


def _with_codes(source: SpeechEncoder, shape: EncoderConfig, start: str) -> SpeechEncoder:
    """Return a random encoder with the front end and the quantiser of another one."""
    encoder = SpeechEncoder(shape)
    names = ("frontend.", "feature_norm.", "quantiser.")
    codes = {name: value for name, value in source.state_dict().items() if name.startswith(names)}
    own = encoder.state_dict()
    missing = sorted(name for name in own if name.startswith(names) and name not in codes)
    wrong = [name for name, value in codes.items() if name not in own or own[name].shape != value.shape]
    fields = ("frontend", "conv_norm", "normalized")
    unlike = [name for name in fields if getattr(source.config, name) != getattr(shape, name)]
    if source.quantiser is None or missing or wrong or unlike:
        first = next(iter([*unlike, *wrong, *missing]), "quantiser")
        raise ValueError(
            f"start {start} needs a front end and a quantiser of the same shape, and {first} is not; compare the two."
        )
    encoder.load_state_dict({**own, **codes})
    return encoder
