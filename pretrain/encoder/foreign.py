"""Encoders that others published -> ours, and ours -> transformers.

Four families of names are read: microsoft/unilm and fairseq (`.pt`), transformers (folder or hub id), torchaudio
(bundle name).
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file, save_file
from torch import Tensor

from pretrain.encoder.checkpoint import load_inert, settings_of
from pretrain.encoder.config import EncoderConfig
from pretrain.encoder.frontend import KERNELS, STRIDES

Weights = dict[str, Tensor]
MODEL_TYPES = ("wavlm", "hubert", "wav2vec2")

# ours -> theirs. {n} is a front end layer or a block.
_TRANSFORMERS = {
    "frontend.layers.{n}.weight": "feature_extractor.conv_layers.{n}.conv.weight",
    "frontend.layers.{n}.bias": "feature_extractor.conv_layers.{n}.conv.bias",
    "frontend.layers.{n}.norm.": "feature_extractor.conv_layers.{n}.layer_norm.",
    "feature_norm.": "feature_projection.layer_norm.",
    "project.": "feature_projection.projection.",
    "mask_embedding": "masked_spec_embed",
    "transformer.position.conv.": "encoder.pos_conv_embed.conv.",
    "transformer.norm.": "encoder.layer_norm.",
    "transformer.bias.table.": "encoder.layers.0.attention.rel_attn_embed.",
    "transformer.blocks.{n}.attention.query.": "encoder.layers.{n}.attention.q_proj.",
    "transformer.blocks.{n}.attention.key.": "encoder.layers.{n}.attention.k_proj.",
    "transformer.blocks.{n}.attention.value.": "encoder.layers.{n}.attention.v_proj.",
    "transformer.blocks.{n}.attention.out.": "encoder.layers.{n}.attention.out_proj.",
    "transformer.blocks.{n}.attention.gate.": "encoder.layers.{n}.attention.gru_rel_pos_linear.",
    "transformer.blocks.{n}.attention.gate_scale": "encoder.layers.{n}.attention.gru_rel_pos_const",
    "transformer.blocks.{n}.attention_norm.": "encoder.layers.{n}.layer_norm.",
    "transformer.blocks.{n}.widen.": "encoder.layers.{n}.feed_forward.intermediate_dense.",
    "transformer.blocks.{n}.narrow.": "encoder.layers.{n}.feed_forward.output_dense.",
    "transformer.blocks.{n}.ffn_norm.": "encoder.layers.{n}.final_layer_norm.",
}
# theirs -> transformers' names, for the other two families
_FAIRSEQ = {
    "feature_extractor.conv_layers.{n}.0.": "feature_extractor.conv_layers.{n}.conv.",
    "feature_extractor.conv_layers.{n}.2.1.": "feature_extractor.conv_layers.{n}.layer_norm.",
    "feature_extractor.conv_layers.{n}.2.": "feature_extractor.conv_layers.{n}.layer_norm.",
    "layer_norm.": "feature_projection.layer_norm.",
    "post_extract_proj.": "feature_projection.projection.",
    "mask_emb": "masked_spec_embed",
    "encoder.pos_conv.0.": "encoder.pos_conv_embed.conv.",
    "encoder.layers.{n}.self_attn.relative_attention_bias.": "encoder.layers.{n}.attention.rel_attn_embed.",
    "encoder.layers.{n}.self_attn.grep_linear.": "encoder.layers.{n}.attention.gru_rel_pos_linear.",
    "encoder.layers.{n}.self_attn.grep_a": "encoder.layers.{n}.attention.gru_rel_pos_const",
    "encoder.layers.{n}.self_attn.": "encoder.layers.{n}.attention.",
    "encoder.layers.{n}.self_attn_layer_norm.": "encoder.layers.{n}.layer_norm.",
    "encoder.layers.{n}.fc1.": "encoder.layers.{n}.feed_forward.intermediate_dense.",
    "encoder.layers.{n}.fc2.": "encoder.layers.{n}.feed_forward.output_dense.",
}
_TORCHAUDIO = {
    "encoder.feature_projection.": "feature_projection.",
    "encoder.transformer.layers.{n}.attention.attention.": "encoder.layers.{n}.attention.",
    "encoder.transformer.": "encoder.",
    "mask_generator.mask_embedding": "masked_spec_embed",
}
_WEIGHT_NORM = {
    "encoder.pos_conv_embed.conv.weight_g": "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    "encoder.pos_conv_embed.conv.weight_v": "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
}
# heads and losses of pretraining or fine-tuning, which the encoder does not hear of
_HEADS = re.compile(
    r"(final_proj|label_embs_concat|project_q|quantizer|target_glu|lm_head|aux|logit_generator|project_hid|"
    r"projector|proj|classifier|layer_weights)\b.*"
)


def read(source: str | Path) -> tuple[EncoderConfig, Weights]:
    """Read a published encoder.

    Args:
        source: a `.pt` of microsoft/unilm (WavLM) or fairseq (HuBERT, wav2vec 2.0), a transformers folder or hub id
            (WavLM, HuBERT, wav2vec 2.0), or `torchaudio:NAME` for a bundle such as `torchaudio:WAVLM_LARGE`.

    Returns:
        Our config, and the weights under our names.
    """
    name = str(source)
    if name.startswith("torchaudio:"):
        weights, hints = _read_torchaudio(name.removeprefix("torchaudio:"))
    elif Path(name).suffix in (".pt", ".pth"):
        weights, hints = _read_fairseq(Path(name))
    else:
        weights, hints = _read_transformers(name)
    try:
        return convert(weights, hints)
    except KeyError as error:
        raise ValueError(f"{name} lacks {error}; it is no HuBERT, WavLM or wav2vec 2.0 encoder.") from None


def convert(weights: Weights, hints: Mapping[str, Any]) -> tuple[EncoderConfig, Weights]:
    """Turn weights under transformers' names into our config and names; `hints` is what the weights cannot tell."""
    weights = {key: value.float() for key, value in weights.items() if not _HEADS.fullmatch(key)}
    _mend(weights)
    return EncoderConfig(**_shape(weights) | hints), _rename(weights, {new: old for old, new in _TRANSFORMERS.items()})


def write_transformers(config: EncoderConfig, weights: Mapping[str, Tensor], folder: str | Path) -> None:
    """Write `config.json` and `model.safetensors` that transformers' WavLMModel or HubertModel loads."""
    if config.frontend != "conv":
        raise ValueError("transformers has no encoder with a log-mel front end; only `frontend: conv` can be exported.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model_type = "wavlm" if config.gated_bias else "hubert"
    theirs = {
        "model_type": model_type,
        "architectures": ["WavLMModel" if config.gated_bias else "HubertModel"],
        "conv_dim": [config.conv_dim] * len(KERNELS),
        "conv_kernel": list(KERNELS),
        "conv_stride": list(STRIDES),
        "num_feat_extract_layers": len(KERNELS),
        "conv_bias": config.conv_bias,
        "feat_extract_norm": config.conv_norm,
        "do_stable_layer_norm": config.pre_norm,
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.ffn_dim,
        "num_conv_pos_embeddings": config.pos_kernel,
        "num_conv_pos_embedding_groups": config.pos_groups,
        "num_buckets": config.num_buckets,
        "max_bucket_distance": config.max_distance,
        "hidden_dropout": config.dropout,
        "feat_proj_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "layerdrop": config.layer_drop,
        "feat_extract_activation": "gelu",
        "hidden_act": "gelu",
    }
    preprocessor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": config.normalized,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": 16_000,
    }
    renamed = _rename(weights, _TRANSFORMERS)
    for key, value in renamed.items():
        if key.endswith("gru_rel_pos_const"):
            renamed[key] = value.reshape(1, -1, 1, 1)
    save_file({key: value.contiguous() for key, value in renamed.items()}, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(theirs, indent=2), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2), encoding="utf-8")


def is_foreign(source: str | Path) -> bool:
    """Tell whether `source` is something `read` understands, as opposed to one of our own folders or hub ids."""
    name = str(source)
    if name.startswith("torchaudio:") or Path(name).suffix in (".pt", ".pth"):
        return True
    config = _fetch(name, "config.json")
    return config is not None and json.loads(config.read_text(encoding="utf-8")).get("model_type") in MODEL_TYPES


def _shape(weights: Weights) -> dict[str, Any]:
    """Read the config off the weights; what they cannot tell is set as in the published models."""
    convs = "feature_extractor.conv_layers"
    shapes = [tuple(weights[f"{convs}.{n}.conv.weight"].shape) for n in range(len(KERNELS))]
    if [shape[2] for shape in shapes] != list(KERNELS) or len({shape[0] for shape in shapes}) != 1:
        raise ValueError(f"the front end's convolutions have shapes {shapes}; only the usual seven kernels are known.")
    query = weights["encoder.layers.0.attention.q_proj.weight"]
    position = weights["encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
    gate = weights.get("encoder.layers.0.attention.gru_rel_pos_const")
    table = weights.get("encoder.layers.0.attention.rel_attn_embed.weight")
    dim = len(query)
    large = f"{convs}.1.layer_norm.weight" in weights
    return {
        "conv_dim": shapes[0][0],
        "conv_norm": "layer" if large else "group",
        "conv_bias": f"{convs}.0.conv.bias" in weights,
        "dim": dim,
        "depth": 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("encoder.layers.")),
        "heads": dim // 64 if gate is None else gate.numel(),
        "ffn_dim": len(weights["encoder.layers.0.feed_forward.intermediate_dense.weight"]),
        "pre_norm": large,
        "gated_bias": gate is not None,
        "num_buckets": 320 if table is None else len(table),
        "pos_kernel": position.shape[2],
        "pos_groups": dim // position.shape[1],
        "normalized": large,
        # kNN-VC's layer, the one layer somebody has measured
        "matching_layer": 6 if gate is not None and dim == 1024 else None,
    }


def _mend(weights: Weights) -> None:
    """Bring spellings of the same thing together, in place."""
    for old, new in _WEIGHT_NORM.items():
        if old in weights:
            weights[new] = weights.pop(old)
    for key in [key for key in weights if key.endswith("gru_rel_pos_const")]:
        weights[key] = weights[key].flatten()
    for key in [key for key in weights if ".in_proj_" in key]:  # torchaudio's WavLM packs query, key and value
        parts = weights.pop(key).chunk(3)
        weights.update({key.replace("in_proj_", f"{name}_proj."): part for name, part in zip("qkv", parts, strict=True)})
    # some files were written without a mask embedding (it serves only training): none is needed to extract
    dim = len(weights["encoder.layer_norm.weight"]) if "encoder.layer_norm.weight" in weights else 0
    weights.setdefault("masked_spec_embed", torch.zeros(dim))


def _rename(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> Weights:
    """Rename keys by the first pattern they begin with; a key that none fits is refused."""
    rules = _compiled(names)
    renamed = {}
    for key, value in weights.items():
        new = next((new for rule in rules if (new := rule(key))), None)
        if new is None:
            raise ValueError(f"the checkpoint holds {key!r}, which no encoder known here has.")
        renamed[new] = value
    return renamed


def _compiled(names: Mapping[str, str]) -> list[Callable[[str], str | None]]:
    def rule(old: str, new: str) -> Callable[[str], str | None]:
        end = "" if old.endswith(".") else "$"
        pattern = re.compile("^" + re.escape(old).replace(r"\{n\}", r"(\d+)") + end)
        new = new.replace("{n}", r"\1")
        return lambda key: pattern.sub(new, key) if pattern.match(key) else None

    return [rule(old, new) for old, new in names.items()]


def _partly_renamed(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> Weights:
    """Rename the keys that a pattern fits and keep the others."""
    rules = _compiled(names)
    return {next((new for rule in rules if (new := rule(key))), key): value for key, value in weights.items()}


def _read_transformers(name: str) -> tuple[Weights, dict[str, Any]]:
    config_file = _fetch(name, "config.json")
    if config_file is None:
        raise ValueError(f"{name} is no folder with a config.json, nor a model that the hub or its cache gives.")
    theirs = json.loads(config_file.read_text(encoding="utf-8"))
    if theirs.get("model_type") not in MODEL_TYPES:
        raise ValueError(f"{name} holds a {theirs.get('model_type')!r}; possible are {', '.join(MODEL_TYPES)}.")
    if file := _fetch(name, "model.safetensors"):
        weights = load_file(file)
    elif file := _fetch(name, "pytorch_model.bin"):
        weights = load_inert(file)
    else:
        raise ValueError(f"{name} holds neither model.safetensors nor pytorch_model.bin.")
    prefix = f"{theirs['model_type']}."
    preprocessor = _fetch(name, "preprocessor_config.json")
    hints = {
        "heads": theirs.get("num_attention_heads", 12),
        "pre_norm": theirs.get("do_stable_layer_norm", False),
        "max_distance": theirs.get("max_bucket_distance", 800),
    }
    if preprocessor:
        hints["normalized"] = json.loads(preprocessor.read_text(encoding="utf-8")).get("do_normalize", True)
    return {key.removeprefix(prefix): value for key, value in weights.items()}, hints


def _fetch(name: str, file: str) -> Path | None:
    """Find a file in a folder, or through the hub and its cache; None if it is not there."""
    if Path(name).is_dir():
        path = Path(name) / file
        return path if path.is_file() else None
    try:
        return Path(hf_hub_download(name, file))
    except (OSError, ValueError):  # no such repository or file, no network, no valid id
        return None


def _read_torchaudio(name: str) -> tuple[Weights, dict[str, Any]]:
    try:
        import torchaudio  # an extra, and broken beside many builds of torch
    except Exception as error:
        raise ValueError(f"torchaudio cannot be imported ({error}); install the extra: pip install ssl-vc[torchaudio].") from error
    bundle = getattr(torchaudio.pipelines, name, None)
    if bundle is None:
        raise ValueError(f"torchaudio has no bundle {name!r}; WAVLM_LARGE, HUBERT_BASE and WAV2VEC2_BASE are some it has.")
    weights = dict(bundle.get_model().state_dict())
    weights = {key.removeprefix("model."): value for key, value in weights.items()}  # wrapped where it normalises
    hints = {
        "heads": bundle._params["encoder_num_heads"],
        "pre_norm": bundle._params["encoder_layer_norm_first"],
        "normalized": bool(bundle._normalize_waveform),
    }
    return _partly_renamed(weights, _TORCHAUDIO), hints


def _read_fairseq(file: Path) -> tuple[Weights, dict[str, Any]]:
    checkpoint = load_inert(file)
    if not isinstance(checkpoint.get("model"), dict):
        raise ValueError(f"{file} holds no 'model'; a checkpoint of microsoft/unilm or fairseq has one.")
    weights = checkpoint["model"]
    if any(key.startswith("w2v_encoder.") for key in weights):  # a fine-tuned model wraps the encoder
        weights = {key.removeprefix("w2v_encoder.").removeprefix("w2v_model."): value for key, value in weights.items()}
    settings = settings_of(checkpoint)
    names = {
        "encoder_attention_heads": "heads",
        "layer_norm_first": "pre_norm",
        "normalize": "normalized",
        "max_distance": "max_distance",
    }
    hints = {ours: settings[theirs] for theirs, ours in names.items() if theirs in settings}
    return fairseq_names(weights), hints


def fairseq_names(weights: Mapping[str, Tensor]) -> Weights:
    """Bring the names of fairseq and unilm to transformers'."""
    return _partly_renamed(weights, _FAIRSEQ)
