"""Our encoders as folders that transformers reads, with equal outputs.

shape                            class
positional convolution           HubertModel
several (data2vec)               Data2VecAudioModel
gated position bias              WavLMModel
with wav2vec 2.0's heads         Wav2Vec2ForPreTraining
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from pretrain.encoder import names
from pretrain.encoder.config import EncoderConfig
from pretrain.encoder.foreign import SUPPORTED
from pretrain.encoder.frontend import KERNELS

# wav2vec 2.0's heads: ours -> theirs
HEADS = {
    "quantiser.codebooks": "quantizer.codevectors",
    "quantiser.score.0.weight": "quantizer.weight_proj.weight",
    "quantiser.score.0.bias": "quantizer.weight_proj.bias",
    **{f"project.{part}": f"project_hid.{part}" for part in ("weight", "bias")},
    **{f"project_target.{part}": f"project_q.{part}" for part in ("weight", "bias")},
}


def has_equal(config: EncoderConfig) -> bool:
    """Return whether transformers has an encoder of this shape."""
    kind = (config.frontend, config.context, config.position, config.causal, config.quantiser)
    if config.pos_depth > 1 and (config.gated_bias or config.pre_norm or config.conv_norm != "layer"):
        return False
    return kind == ("conv", "transformer", "conv", False, "none")


def write_transformers(
    config: EncoderConfig,
    weights: Mapping[str, Tensor],
    folder: str | Path,
    heads: Mapping[str, Tensor] | None = None,
) -> None:
    """Write `config.json`, `model.safetensors` and `preprocessor_config.json`.

    Args:
        config: of the encoder.
        weights: of the encoder.
        folder: to write to.
        heads: of wav2vec 2.0, as in `quantiser.safetensors`; none if None.
    """
    if not has_equal(config):
        raise ValueError(
            f"transformers has no encoder with frontend {config.frontend}, context {config.context}, position "
            f"{config.position} x {config.pos_depth}, quantiser {config.quantiser} and causal "
            f"{str(config.causal).lower()}; only `frontend: conv` with a transformer that sees the whole clip, and "
            "positions, can be exported."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    theirs, renamed = _config(config), names.to_transformers(weights)
    if heads is not None:
        theirs |= {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForPreTraining"], **_head_config(heads)}
        renamed = {f"wav2vec2.{name}": value for name, value in renamed.items()} | _renamed_heads(heads)
    preprocessor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": config.normalized,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": 16_000,
    }
    contiguous = {key: value.contiguous() for key, value in renamed.items()}
    (folder / "model.safetensors").write_bytes(save(contiguous, {"format": "pt"}))
    (folder / "config.json").write_text(json.dumps(theirs, indent=2), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2), encoding="utf-8")


def _config(config: EncoderConfig) -> dict[str, Any]:
    """Return transformers' config of an encoder."""
    kinds = {"wavlm": "WavLMModel", "data2vec-audio": "Data2VecAudioModel", "hubert": "HubertModel"}
    model_type = "wavlm" if config.gated_bias else "hubert" if config.pos_depth == 1 else "data2vec-audio"
    position: dict[str, int] = {"num_conv_pos_embeddings": config.pos_kernel}
    if config.pos_depth > 1:
        position = {
            "num_conv_pos_embeddings": config.pos_depth,
            "conv_pos_kernel_size": max(3, config.pos_kernel // config.pos_depth),
        }
    return {
        "model_type": model_type,
        "architectures": [kinds[model_type]],
        "conv_dim": [config.conv_dim] * len(KERNELS),
        "conv_kernel": list(KERNELS),
        "num_feat_extract_layers": len(KERNELS),
        "conv_bias": config.conv_bias,
        "feat_extract_norm": config.conv_norm,
        "feat_proj_layer_norm": config.project_norm,
        "do_stable_layer_norm": config.pre_norm,
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.ffn_dim,
        "num_conv_pos_embedding_groups": config.pos_groups,
        "num_buckets": config.num_buckets,
        "max_bucket_distance": config.max_distance,
        "hidden_dropout": config.dropout,
        "feat_proj_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "layerdrop": config.layer_drop,
        **position,
        **SUPPORTED,
    }


def _head_config(heads: Mapping[str, Tensor]) -> dict[str, int]:
    groups, codes, part = heads["quantiser.codebooks"].shape
    return {
        "num_codevector_groups": groups,
        "num_codevectors_per_group": codes,
        "codevector_dim": groups * part,
        "proj_codevector_dim": len(heads["project.weight"]),
    }


def _renamed_heads(heads: Mapping[str, Tensor]) -> names.Weights:
    renamed = {theirs: heads[ours] for ours, theirs in HEADS.items()}
    codebooks = renamed["quantizer.codevectors"]
    renamed["quantizer.codevectors"] = codebooks.flatten(0, 1)[None]
    return renamed
