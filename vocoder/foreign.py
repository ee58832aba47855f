"""Vocoders published by others: their checkpoints, read without running their code, as our configs and weights."""

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocoder.files import read_json
from vocoder.mel import MelConfig


def read_checkpoint(file: Path, *keys: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint's weights, with weight norm folded in, and the `config.json` beside it (empty if missing).

    Args:
        file: a file that `torch.load` reads without running code.
        keys: under which the weights may be nested.
    """
    if not file.is_file():
        raise ValueError(f"{file} does not exist or is not a file.")
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken zip, a truncated pickle, a class that is not allowed
        reason = (str(error) or "it is empty").splitlines()[0]
        raise ValueError(f"{file} is not a readable checkpoint ({reason}).") from None
    for key in keys:
        if isinstance(checkpoint, dict) and key in checkpoint:
            checkpoint = checkpoint[key]
    if not isinstance(checkpoint, dict) or not all(isinstance(value, Tensor) for value in checkpoint.values()):
        raise ValueError(f"{file} does not hold the weights of a vocoder.")
    config = file.with_name("config.json")
    settings = read_json(config) if os.path.lexists(config) else {}
    return fold_weight_norm(checkpoint), settings


def fold_weight_norm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Merge direction `weight_v` and norm `weight_g` into `weight`."""
    folded = {}
    for key, value in weights.items():
        if key.endswith("weight_v"):
            length = weights[f"{key[:-1]}g"]
            norm = torch.linalg.vector_norm(value.double(), dim=tuple(range(1, value.ndim)), keepdim=True)
            folded[f"{key[:-2]}"] = (value.double() * length.double() / norm).float()
        elif not key.endswith("weight_g"):
            folded[key] = value.float()
    return folded


def build(cls: Any, config: Any, weights: dict[str, Tensor], source: str | Path) -> Any:
    """Returns a vocoder of the class with these weights; an error names their source."""
    try:
        return cls.from_weights(config, weights)
    except ValueError as error:
        raise ValueError(f"{source} is not a supported {cls.__name__}: {error}") from None


def rename_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights to ours: version 3's single convolutions as the first of a pair, one-element lists flattened."""
    return {
        re.sub(r"^ups\.(\d+)\.0\.", r"ups.\1.", key.replace(".convs.", ".convs1.")): weights[key] for key in weights
    }


def shape_from_weights(weights: dict[str, Tensor], settings: dict[str, Any]) -> dict[str, Any]:
    """Infer HiFi-GAN's or BigVGAN's shape from its weights and, where they are ambiguous, its published settings."""
    try:
        ups = [weights[f"ups.{n}.weight"] for n in range(sum(key.startswith("ups.") for key in weights) // 2)]
        stacks = len({key.split(".")[1] for key in weights if key.startswith("resblocks.")}) // len(ups)
        block = 1 if any(".convs2." in key for key in weights) else 2
        first = "convs1" if "resblocks.0.convs1.0.weight" in weights else "convs"
        block_kernels = tuple(weights[f"resblocks.{n}.{first}.0.weight"].shape[2] for n in range(stacks))
        channels = weights["conv_pre.weight"].shape[0]
    except (KeyError, ZeroDivisionError):
        raise ValueError("these are not the weights of a HiFi-GAN family generator.") from None
    kernels = tuple(up.shape[2] for up in ups)
    dilations = ((1, 3, 5),) * stacks if block == 1 else ((1, 2), (2, 6), (3, 12))
    return {
        "channels": channels,
        "kernels": kernels,
        "rates": tuple(settings.get("upsample_rates", [kernel // 2 for kernel in kernels])),
        "block": block,
        "block_kernels": block_kernels,
        "dilations": tuple(map(tuple, settings.get("resblock_dilation_sizes", dilations))),
    }


def mel_from_settings(settings: dict[str, Any], bands: int) -> MelConfig:
    """Returns the mel spectrogram of HiFi-GAN's or BigVGAN's settings; missing ones are the paper's for LJ Speech."""
    high = settings.get("fmax", 8000)
    return MelConfig(
        sample_rate=settings.get("sampling_rate", 22_050),
        n_fft=settings.get("n_fft", 1024),
        hop_length=settings.get("hop_size", 256),
        bands=bands,
        low=float(settings.get("fmin", 0)),
        high=None if high is None else float(high),
    )
