"""Checkpoints that others published, read without running their code; and the way back to transformers."""

import argparse
import enum
import json
import os
import pickle
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import HubertModel, WavLMModel

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.encoder import foreign, names

SMALL = {"conv_dim": 16, "dim": 128, "depth": 2, "heads": 2, "ffn_dim": 64, "pos_kernel": 8, "pos_groups": 4}
PUBLISHED = {
    "shapes_wavlm_large": EncoderConfig.wavlm_large(),
    "shapes_wavlm_base_plus": EncoderConfig.wavlm_base(),
    "shapes_hubert_base_fairseq": EncoderConfig.hubert_base(),
    "shapes_wav2vec2_base_fairseq": EncoderConfig.wav2vec2_base(),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_key_lists_map_completely(golden, name):
    theirs = {key: torch.empty(shape, device="meta") for key, shape in golden(name).shapes.items()}
    config, weights = foreign.convert(names.from_fairseq(theirs), {})
    with torch.device("meta"):
        encoder = SpeechEncoder(config)
    wanted = {key: value.shape for key, value in encoder.state_dict().items()}
    assert {key: value.shape for key, value in weights.items()} == wanted
    training = ("dropout", "attention_dropout", "layer_drop")  # a state dict does not tell these
    shape = {key: getattr(PUBLISHED[name], key) for key in vars(config) if key not in training}
    assert {key: getattr(config, key) for key in shape} == shape


def fairseq_weights(golden):
    case = golden("hubert_pretrain_forward")
    return case, dict(case.config["model"], normalize=False)


def layer_representations(encoder, wav):
    with torch.inference_mode():
        return encoder.layers(wav)


class Choice(enum.Enum):
    GELU = "gelu"


@pytest.fixture
def fairseq_like(monkeypatch):
    """Classes under fairseq's names, which only the writing side of a test has."""
    module = types.ModuleType("fairseq.data.dictionary")
    for name in ("Dictionary", "DictConfig", "AnyNode"):
        setattr(module, name, type(name, (), {"__module__": module.__name__, "__qualname__": name}))
    module.Choice = Choice
    monkeypatch.setattr(Choice, "__module__", module.__name__)
    for name in ("fairseq", "fairseq.data"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def make(kind, **state):
    thing = kind()
    thing.__dict__.update(state)
    return thing


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("style", ["namespace", "dict", "tree"])
def test_fairseq_checkpoint_with_objects_in_it(golden, tmp_path, fairseq_like, monkeypatch, style, zipped):
    case, settings = fairseq_weights(golden)
    checkpoint = {
        "model": case.weights,
        "task_state": {"dictionaries": [make(fairseq_like.Dictionary, symbols=["<s>", "1"], count=[1, 2])]},
        "activation": fairseq_like.Choice.GELU,
        "extra_state": {"best": np.float64(3.2), "seen": {1, 2}},
    }
    if style == "namespace":
        checkpoint["args"] = argparse.Namespace(**settings)
    elif style == "dict":
        checkpoint["cfg"] = {"model": settings, "task": {"normalize": False}}
    else:
        nodes = {key: make(fairseq_like.AnyNode, _val=value) for key, value in settings.items()}
        tree = make(fairseq_like.DictConfig, _content={"model": make(fairseq_like.DictConfig, _content=nodes)})
        checkpoint["cfg"] = tree
    torch.save(checkpoint, tmp_path / "hubert.pt", _use_new_zipfile_serialization=zipped)
    for name in ("fairseq", "fairseq.data", "fairseq.data.dictionary"):
        monkeypatch.delitem(sys.modules, name)
    encoder = SpeechEncoder.from_foreign(tmp_path / "hubert.pt")
    assert encoder.config.heads == 4
    first_row = layer_representations(encoder, case.input["source"][:1])
    assert (first_row[2] - case.output["layer2"][:1]).abs().max() < 1e-4


def test_published_files_without_settings_are_read_by_their_shapes(tmp_path):
    torch.manual_seed(0)
    encoder = SpeechEncoder(EncoderConfig.wavlm_base(**SMALL)).eval()
    encoder.save_transformers(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    assert SpeechEncoder.from_foreign(tmp_path).config.heads == 2


@pytest.mark.parametrize("kind", ["wavlm", "hubert"])
def test_torchaudio_bundles(golden, monkeypatch, kind):
    """The weights and outputs were made by torchaudio 2.11's own models."""
    case = golden(f"torchaudio_{kind}")
    model = SimpleNamespace(state_dict=lambda: {f"model.{key}": value for key, value in case.weights.items()})
    bundle = SimpleNamespace(
        get_model=lambda: model,
        _normalize_waveform=False,
        _params={"encoder_num_heads": 3, "encoder_layer_norm_first": kind == "wavlm"},
    )
    monkeypatch.setitem(sys.modules, "torchaudio", SimpleNamespace(pipelines=SimpleNamespace(TINY=bundle)))
    encoder = SpeechEncoder.from_foreign("torchaudio:TINY")
    for layer, name in zip(layer_representations(encoder, case.input["wav"])[1:], ("layer1", "layer2"), strict=True):
        assert (layer - case.output[name]).abs().max() < 1e-4
    with pytest.raises(ValueError, match="no bundle 'OTHER'"):
        SpeechEncoder.from_foreign("torchaudio:OTHER")


def test_without_torchaudio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(ValueError, match=r"pip install ssl-vc\[torchaudio\]"):
        SpeechEncoder.from_foreign("torchaudio:WAVLM_LARGE")


@pytest.mark.parametrize(
    ("config", "model_class"),
    [
        (EncoderConfig.wavlm_base(**SMALL), WavLMModel),
        (EncoderConfig.wavlm_large(**SMALL, matching_layer=1, normalized=False), WavLMModel),
        (EncoderConfig.hubert_base(**SMALL), HubertModel),
        (EncoderConfig.wav2vec2_large(**SMALL, normalized=False), HubertModel),
    ],
    ids=["wavlm-base", "wavlm-large", "hubert-base", "biased"],
)
def test_export_to_transformers_and_back(tmp_path, config, model_class):
    torch.manual_seed(0)
    ours = SpeechEncoder(config).eval()
    ours.save_transformers(tmp_path)
    theirs, report = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    wav = torch.randn(1, 9_000) * 0.3
    layers = layer_representations(ours, wav)
    with torch.inference_mode():
        output = theirs.eval()(wav, output_hidden_states=True)
    # Large's last one, before transformers 5.16
    normalised = config.pre_norm and torch.equal(output.hidden_states[-1], output.last_hidden_state)
    for want, got in zip(layers, output.hidden_states[: -1 if normalised else None], strict=False):
        assert (want - got).abs().max() < 1e-4
    back = SpeechEncoder.from_foreign(tmp_path)
    assert back.fingerprint(2) == ours.fingerprint(2)
    assert back.config.normalized == config.normalized
    assert foreign.is_foreign(tmp_path)


def test_a_wrapped_model_and_a_pickled_file_are_read_alike(tmp_path):
    """As a fine-tuned transformers model (prefix, head), in the older pytorch_model.bin."""
    torch.manual_seed(0)
    ours = SpeechEncoder(EncoderConfig.wavlm_base(**SMALL))
    ours.save_transformers(tmp_path)
    weights = {f"wavlm.{key}": value for key, value in load_file(tmp_path / "model.safetensors").items()}
    for new, old in (("weight_g", "original0"), ("weight_v", "original1")):
        stem = "wavlm.encoder.pos_conv_embed.conv."
        weights[stem + new] = weights.pop(stem + "parametrizations.weight." + old)
    weights["lm_head.weight"] = torch.zeros(3, 128)
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    assert SpeechEncoder.from_foreign(tmp_path).fingerprint(2) == ours.fingerprint(2)


def test_what_only_a_config_tells_is_read(tmp_path):
    torch.manual_seed(0)
    config = EncoderConfig.wavlm_large(**SMALL, max_distance=500)
    encoder = SpeechEncoder(config)
    encoder.save_transformers(tmp_path / "folder")
    read = SpeechEncoder.from_foreign(tmp_path / "folder").config
    assert (read.max_distance, read.normalized, read.heads) == (500, True, 2)
    (tmp_path / "folder" / "preprocessor_config.json").write_text("{}")
    assert SpeechEncoder.from_foreign(tmp_path / "folder").config.normalized  # transformers' own default


def test_unilms_settings_are_read(golden, tmp_path):
    case = golden("wavlm_base_like")
    settings = case.config | {"max_distance": 500, "normalize": True}
    torch.save({"cfg": settings, "model": case.weights}, tmp_path / "model.pt")
    config = SpeechEncoder.from_foreign(tmp_path / "model.pt").config
    assert (config.max_distance, config.normalized, config.heads, config.pre_norm) == (500, True, 4, False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "relu"),
        ("feat_extract_activation", "relu"),
        ("layer_norm_eps", 0.1),
        ("conv_stride", [4, 2, 2, 2, 2, 2, 2]),
        ("num_attention_heads", None),
    ],
)
def test_settings_that_ours_cannot_have_are_refused(tmp_path, key, value):
    SpeechEncoder(EncoderConfig.wavlm_base(**SMALL)).save_transformers(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(ValueError, match=rf"{key} .*; only|heads is None; it must be int"):
        SpeechEncoder.from_foreign(tmp_path)


def test_each_reader_knows_the_others_folders(tmp_path):
    SpeechEncoder(EncoderConfig.wavlm_base(**SMALL)).save_transformers(tmp_path)
    with pytest.raises(ValueError, match=r"holds a model of transformers; `SpeechEncoder\.from_foreign` reads it"):
        SpeechEncoder.from_pretrained(tmp_path)


def test_missing_and_misfit_weights_are_named(tmp_path):
    SpeechEncoder(EncoderConfig.wavlm_base(**SMALL)).save_transformers(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lacking = {key: value for key, value in weights.items() if key != "encoder.layers.1.layer_norm.bias"}
    save_file(lacking, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"blocks\.1\.attention_norm\.bias has shape None; .* requires \(128,\)"):
        SpeechEncoder.from_foreign(tmp_path)
    save_file(weights | {"encoder.layers.1.layer_norm.bias": torch.ones(5)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"blocks\.1\.attention_norm\.bias has shape \(5,\)"):
        SpeechEncoder.from_foreign(tmp_path)


def test_log_mel_cannot_be_exported(tmp_path):
    encoder = SpeechEncoder(EncoderConfig.tiny(**SMALL))
    with pytest.raises(ValueError, match="no encoder with frontend log_mel"):
        encoder.save_transformers(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def write_text(path):
    path.write_text("not a checkpoint")


def write_truncated(path):
    torch.save({"model": {"a": torch.randn(1000)}}, path)
    path.write_bytes(path.read_bytes()[:900])


def write_endless(path):
    settings = {}
    settings["again"] = settings
    torch.save({"cfg": settings, "model": {}}, path)


BAD = {
    "runs code": (lambda path: torch.save({"model": {}, "x": Trap()}, path), r"names \w+\.mkdir, which no checkpoint"),
    "runs code, older format": (
        lambda path: torch.save({"model": {}, "x": Trap()}, path, _use_new_zipfile_serialization=False),
        r"names \w+\.mkdir, which no checkpoint",
    ),
    "runs code, bare pickle": (lambda path: path.write_bytes(pickle.dumps(Trap(), 2)), "is no readable checkpoint"),
    "text": (write_text, "is no readable checkpoint"),
    "empty": (lambda path: path.touch(), "is no readable checkpoint"),
    "truncated": (write_truncated, "is no readable checkpoint"),
    "a list": (lambda path: torch.save([1, 2], path), "holds a list, not the weights"),
    "no model": (lambda path: torch.save({"generator": {}}, path), "holds no 'model'"),
    "another model": (
        lambda path: torch.save({"model": {"conv.weight": torch.ones(2)}}, path),
        "lacks .* not a HuBERT",
    ),
    "no tensors": (lambda path: torch.save({"model": {"encoder.layer_norm.weight": 3}}, path), "not a HuBERT"),
    "keys that are numbers": (lambda path: torch.save({"model": {3: torch.ones(2)}}, path), "not a HuBERT"),
    "endless settings": (write_endless, "not a HuBERT"),
    "missing": (lambda path: None, "does not exist"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_checkpoints_are_refused(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write, sentence = BAD[kind]
    write(tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=sentence) as refused:
        SpeechEncoder.from_foreign(tmp_path / "bad.pt")
    assert "bad.pt" in str(refused.value)
    assert not (tmp_path / "sprung").exists()


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        SpeechEncoder.from_foreign(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="holds a 'bert'; possible are wavlm, hubert, wav2vec2"):
        SpeechEncoder.from_foreign(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wavlm"}))
    with pytest.raises(ValueError, match=r"neither model\.safetensors nor"):
        SpeechEncoder.from_foreign(tmp_path)


def test_unknown_weights_are_refused(tmp_path):
    torch.manual_seed(0)
    SpeechEncoder(EncoderConfig.wavlm_base(**SMALL)).save_transformers(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights | {"encoder.adapter.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"holds 'encoder\.adapter\.weight', which no supported encoder has"):
        SpeechEncoder.from_foreign(tmp_path)
