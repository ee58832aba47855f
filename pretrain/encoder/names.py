"""Names of the same weights in four families of checkpoints.

transformers' names are the pivot: fairseq's, unilm's and torchaudio's are mapped to them, and from them to ours.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Weights = dict[str, Tensor]

# ours -> theirs. {n} is a front end layer or a block.
_TRANSFORMERS = {
    "frontend.layers.{n}.weight": "feature_extractor.conv_layers.{n}.conv.weight",
    "frontend.layers.{n}.bias": "feature_extractor.conv_layers.{n}.conv.bias",
    "frontend.layers.{n}.norm.": "feature_extractor.conv_layers.{n}.layer_norm.",
    "feature_norm.": "feature_projection.layer_norm.",
    "project.": "feature_projection.projection.",
    "mask_embedding": "masked_spec_embed",
    "transformer.position.conv.": "encoder.pos_conv_embed.conv.",
    "transformer.position.convs.{n}.": "encoder.pos_conv_embed.layers.{n}.conv.",
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
    "encoder.pos_conv.{n}.0.": "encoder.pos_conv_embed.layers.{n}.conv.",
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
# heads of pretraining or fine-tuning, which are not part of the encoder
_HEADS = re.compile(
    r"(final_proj|label_embs_concat|label_embeddings_concat|project_q|quantizer|target_glu|lm_head|aux|logit_generator|"
    r"project_hid|projector|proj|classifier|layer_weights|speaker_proj|ctc_proj|layer_norm_for_extract)\b.*"
)


def from_fairseq(weights: Mapping[str, Tensor]) -> Weights:
    """Rename fairseq's and unilm's weights to transformers'."""
    return _partly_renamed(weights, _FAIRSEQ)


def from_torchaudio(weights: Mapping[str, Tensor]) -> Weights:
    """Rename torchaudio's weights to transformers'."""
    return _partly_renamed({key.removeprefix("model."): value for key, value in weights.items()}, _TORCHAUDIO)


def encoder_only(weights: Mapping[str, Tensor]) -> Weights:
    """Drop the training heads, and unify variant names and shapes."""
    weights = {key: value.float() for key, value in weights.items() if not _HEADS.fullmatch(key)}
    _unify(weights)
    return weights


def to_ours(weights: Mapping[str, Tensor]) -> Weights:
    """Rename transformers' weights to ours; raise ValueError on an unknown key."""
    return _renamed(weights, {theirs: ours for ours, theirs in _TRANSFORMERS.items()})


def to_transformers(weights: Mapping[str, Tensor]) -> Weights:
    """Rename our weights to transformers'."""
    renamed = _renamed(weights, _TRANSFORMERS)
    for key, value in renamed.items():
        if key.endswith("gru_rel_pos_const"):
            renamed[key] = value.reshape(1, -1, 1, 1)
    return renamed


def _unify(weights: Weights) -> None:
    """Unify variant names and shapes of the same weights, in place."""
    for old, new in _WEIGHT_NORM.items():
        if old in weights:
            weights[new] = weights.pop(old)
    for key in [key for key in weights if key.endswith("gru_rel_pos_const")]:
        weights[key] = weights[key].flatten()
    for key in [key for key in weights if ".in_proj_" in key]:  # torchaudio's WavLM packs query, key and value
        parts = weights.pop(key).chunk(3)
        weights.update(
            {key.replace("in_proj_", f"{name}_proj."): part for name, part in zip("qkv", parts, strict=True)}
        )
    # some files lack the mask embedding, which only pretraining needs
    dim = len(weights["encoder.layer_norm.weight"]) if "encoder.layer_norm.weight" in weights else 0
    weights.setdefault("masked_spec_embed", torch.zeros(dim))


def _renamed(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> Weights:
    """Rename keys by the first matching pattern; raise ValueError if none matches."""
    rules = _compiled(names)
    renamed = {}
    for key, value in weights.items():
        new = next((new for rule in rules if (new := rule(key))), None)
        if new is None:
            raise ValueError(f"the checkpoint holds {key!r}, which no supported encoder has.")
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
    """Rename the keys that match a pattern and keep the others."""
    rules = _compiled(names)
    return {next((new for rule in rules if (new := rule(key))), key): value for key, value in weights.items()}
