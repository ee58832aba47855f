"""Published encoders -> ours.

Four families are supported: microsoft/unilm and fairseq (`.pt`), transformers (folder or hub id), torchaudio
(bundle name).
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file

from pretrain.encoder import names
from pretrain.encoder.checkpoint import load_inert, settings_of
from pretrain.encoder.config import EncoderConfig
from pretrain.encoder.frontend import KERNELS, STRIDES
from pretrain.encoder.names import Weights
from pretrain.files import read_json, require_file

MODEL_TYPES = ("wavlm", "hubert", "wav2vec2", "data2vec-audio", "unispeech", "unispeech-sat")
SUPPORTED = {  # options of transformers with one supported value
    "conv_stride": list(STRIDES),
    "feat_extract_activation": "gelu",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "conv_pos_batch_norm": False,
}


def read(source: str | Path) -> tuple[EncoderConfig, Weights]:
    """Load a published encoder.

    Args:
        source: a `.pt` of microsoft/unilm (WavLM) or fairseq (HuBERT, wav2vec 2.0), a transformers folder or hub id
            (of `MODEL_TYPES`), or `torchaudio:NAME` for a bundle such as `torchaudio:WAVLM_LARGE`.

    Returns:
        Our config, and the weights under our names.
    """
    name = str(source)
    try:
        if name.startswith("torchaudio:"):
            weights, hints = _read_torchaudio(name.removeprefix("torchaudio:"))
        elif Path(name).suffix in (".pt", ".pth"):
            weights, hints = _read_fairseq(Path(name))
        else:
            weights, hints = _read_transformers(name)
        return convert(weights, hints)
    except KeyError as error:
        raise ValueError(f"{name} lacks {error}; it is not a HuBERT, WavLM or wav2vec 2.0 encoder.") from None
    except (TypeError, AttributeError, IndexError, RecursionError, SafetensorError) as error:  # malformed files
        raise ValueError(f"{name} is not a HuBERT, WavLM or wav2vec 2.0 encoder ({error}).") from None


def convert(weights: Weights, hints: Mapping[str, Any]) -> tuple[EncoderConfig, Weights]:
    """Convert weights under transformers' names to our config and names; `hints` has what shapes do not reveal."""
    weights = names.encoder_only(weights)
    return EncoderConfig(**{**_shape(weights), **hints}), names.to_ours(weights)


def is_foreign(source: str | Path) -> bool:
    """Return whether `source` is for `read`, rather than one of our own folders or hub ids."""
    name = str(source)
    if name.startswith("torchaudio:") or Path(name).suffix in (".pt", ".pth"):
        return True
    config = _fetch(name, "config.json")
    return config is not None and read_json(config).get("model_type") in MODEL_TYPES


def _shape(weights: Weights) -> dict[str, Any]:
    """Infer the config from the weights; what shapes do not reveal is as in the published models."""
    convs = "feature_extractor.conv_layers"
    shapes = [tuple(weights[f"{convs}.{n}.conv.weight"].shape) for n in range(len(KERNELS))]
    if [shape[2] for shape in shapes] != list(KERNELS) or len({shape[0] for shape in shapes}) != 1:
        raise ValueError(
            f"the front end's convolutions have shapes {shapes}; only the usual seven kernels are supported."
        )
    query = weights["encoder.layers.0.attention.q_proj.weight"]
    stack = [
        value for key, value in weights.items() if re.fullmatch(r"encoder.pos_conv_embed.layers.\d+.conv.weight", key)
    ]
    position = stack[0] if stack else weights["encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
    gate = weights.get("encoder.layers.0.attention.gru_rel_pos_const")
    table = weights.get("encoder.layers.0.attention.rel_attn_embed.weight")
    dim = len(query)
    large = f"{convs}.1.layer_norm.weight" in weights
    return {
        "conv_dim": shapes[0][0],
        "conv_norm": "layer" if large else "group",
        "conv_bias": f"{convs}.0.conv.bias" in weights,
        "project_norm": "feature_projection.layer_norm.weight" in weights,
        "dim": dim,
        "depth": 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("encoder.layers.")),
        "heads": dim // 64 if gate is None else gate.numel(),
        "ffn_dim": len(weights["encoder.layers.0.feed_forward.intermediate_dense.weight"]),
        "pre_norm": large,
        "gated_bias": gate is not None,
        "num_buckets": 320 if table is None else len(table),
        "pos_kernel": position.shape[2] * max(len(stack), 1),
        "pos_depth": max(len(stack), 1),
        "pos_groups": dim // position.shape[1],
        "normalized": large,
        # kNN-VC's layer, the only one with published results
        "matching_layer": 6 if gate is not None and dim == 1024 else None,
    }


def _read_transformers(name: str) -> tuple[Weights, dict[str, Any]]:
    config_file = _fetch(name, "config.json")
    if config_file is None:
        raise ValueError(f"{name} holds no config.json.")
    theirs = read_json(config_file)
    if theirs.get("model_type") not in MODEL_TYPES:
        raise ValueError(f"{name} holds a {theirs.get('model_type')!r}; possible are {', '.join(MODEL_TYPES)}.")
    for key, only in SUPPORTED.items():
        if theirs.get(key, only) != only:
            raise ValueError(f"{name} has {key} {theirs[key]}; only {only} can be read.")
    if file := _fetch(name, "model.safetensors"):
        weights = {key: value.clone() for key, value in load_file(require_file(file)).items()}  # the file may change
    elif file := _fetch(name, "pytorch_model.bin"):
        weights = load_inert(file)
    else:
        raise ValueError(f"{name} holds neither model.safetensors nor pytorch_model.bin.")
    prefix = theirs["model_type"].replace("-", "_") + "."
    preprocessor = _fetch(name, "preprocessor_config.json")
    hints = {
        "heads": theirs.get("num_attention_heads", 12),
        "pre_norm": theirs.get("do_stable_layer_norm", False),
        "max_distance": theirs.get("max_bucket_distance", 800),
    }
    if preprocessor:
        hints["normalized"] = read_json(preprocessor).get("do_normalize", True)
    return {key.removeprefix(prefix): value for key, value in weights.items()}, hints


def _fetch(name: str, file: str) -> Path | None:
    """Return the path of a file in a folder, or from the hub and its cache; None if it does not exist."""
    if Path(name).is_dir():
        path = Path(name) / file
        return path if os.path.lexists(path) else None
    try:
        return Path(hf_hub_download(name, file))
    except LocalEntryNotFoundError:
        raise ValueError(
            f"{name} is neither a folder nor in the cache of the hub, and the hub cannot be reached."
        ) from None
    except EntryNotFoundError:
        return None
    except (OSError, ValueError) as error:  # no such repository, or an invalid id
        raise ValueError(f"{name} is neither a folder nor a model of the hub ({str(error).splitlines()[0]}).") from None


def _read_torchaudio(name: str) -> tuple[Weights, dict[str, Any]]:
    try:
        import torchaudio  # an extra, and broken beside many builds of torch
    except Exception as error:
        raise ValueError(
            f"torchaudio cannot be imported ({error}); install the extra: pip install ssl-vc[torchaudio]."
        ) from error
    bundle = getattr(torchaudio.pipelines, name, None)
    if bundle is None:
        raise ValueError(
            f"torchaudio has no bundle {name!r}; WAVLM_LARGE, HUBERT_BASE and WAV2VEC2_BASE are among those it has."
        )
    hints = {
        "heads": bundle._params["encoder_num_heads"],
        "pre_norm": bundle._params["encoder_layer_norm_first"],
        "normalized": bool(bundle._normalize_waveform),
    }
    return names.from_torchaudio(bundle.get_model().state_dict()), hints


def _read_fairseq(file: Path) -> tuple[Weights, dict[str, Any]]:
    checkpoint = load_inert(file)
    if not isinstance(checkpoint.get("model"), dict):
        raise ValueError(f"{file} holds no 'model'; a checkpoint of microsoft/unilm or fairseq has one.")
    weights = checkpoint["model"]
    if any(key.startswith("w2v_encoder.") for key in weights):  # a fine-tuned model wraps the encoder
        weights = {key.removeprefix("w2v_encoder.").removeprefix("w2v_model."): value for key, value in weights.items()}
    settings = settings_of(checkpoint)
    known = {
        "encoder_attention_heads": "heads",
        "layer_norm_first": "pre_norm",
        "normalize": "normalized",
        "max_distance": "max_distance",
    }
    hints = {ours: settings[theirs] for theirs, ours in known.items() if theirs in settings}
    return names.from_fairseq(weights), hints
