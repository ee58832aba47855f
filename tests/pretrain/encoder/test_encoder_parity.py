"""Every layer of ours against public implementations, float32, at most 1e-4 apart on every real frame."""

import pytest
import torch
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertForCTC,
    HubertModel,
    UniSpeechConfig,
    UniSpeechForPreTraining,
    UniSpeechSatConfig,
    UniSpeechSatForPreTraining,
    Wav2Vec2Config,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from pretrain import SpeechEncoder
from pretrain.encoder.attention import RelativePositionBias, relative_buckets
from pretrain.encoder.frontend import valid_frames

TOLERANCE = 1e-4
# transformers itself calls torch with masks of two kinds
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
TINY = {
    "conv_dim": [24] * 7,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
MODELS = {
    "wavlm": (WavLMConfig, WavLMModel),
    "hubert": (HubertConfig, HubertModel),
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
}
# published with heads of training, which are not read: kind -> classes and what differs from their defaults
WITH_HEADS = {
    "xls-r, mms": (Wav2Vec2Config, Wav2Vec2ForPreTraining, LARGE),
    "wav2vec 2.0 base": (Wav2Vec2Config, Wav2Vec2ForPreTraining, {}),
    "unispeech": (UniSpeechConfig, UniSpeechForPreTraining, LARGE),
    "unispeech-sat": (UniSpeechSatConfig, UniSpeechSatForPreTraining, {}),
    "unispeech-sat large": (UniSpeechSatConfig, UniSpeechSatForPreTraining, LARGE),
    "distilhubert": (HubertConfig, HubertModel, {"feat_proj_layer_norm": False, "num_hidden_layers": 2}),
    "hubert for ctc": (HubertConfig, HubertForCTC, LARGE),
    "data2vec": (Data2VecAudioConfig, Data2VecAudioModel, {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 7}),
}


def foreign_file(tmp_path, case):
    """The golden weights as the file their authors would have written."""
    settings = dict(case.config.get("model", case.config), normalize=False)
    torch.save({"cfg": settings, "model": case.weights}, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def foreign_folder(tmp_path, kind, config, weights=None):
    """A transformers folder with random (or given) weights, every one of them away from its default."""
    config_class, model_class = MODELS[kind]
    torch.manual_seed(3)
    model = model_class(config_class(**config)).eval()
    if weights:
        model.load_state_dict(weights)
    else:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(tmp_path)
    return model


def assert_close(ours, reference, counts=None):
    real = torch.ones(ours.shape[:2], dtype=torch.bool) if counts is None else valid_frames(counts, ours.shape[1])
    difference = (ours - reference)[real].abs().max()
    print(f"largest difference {difference:.1e}")  # pytest -rP shows it
    assert difference <= TOLERANCE


@pytest.mark.parametrize("name", ["wavlm_base_like", "wavlm_large_like"])
def test_wavlm_equals_unilm(golden, tmp_path, name):
    case = golden(name)
    encoder = SpeechEncoder.from_foreign(foreign_file(tmp_path, case))
    wav = case.input["source"]
    with torch.inference_mode():
        plain = encoder.layers(wav)
        for n, layer in enumerate(plain):
            assert_close(layer, case.output[f"nomask.layer{n}"])
        assert_close(encoder(wav), case.output["nomask.final"])
        assert_close(encoder(wav, layer=2), case.output["nomask.output_layer2"])
        # unilm calls a frame real if any sample of its T-th part of the row is: one frame more than ours
        counts = (~case.output["mask.padding_mask"]).sum(1)
        if encoder.config.conv_norm == "layer":
            masked = encoder.layers(wav, (counts - 1) * 320 + 400)
        else:
            # its GroupNorm hears the padding of row 1 (see test_padding_does_not_leak): give it the whole row too
            masked = encoder.encode(encoder.features(wav), counts)
        for n, layer in enumerate(masked):
            assert_close(layer, case.output[f"mask.layer{n}"], counts)


@pytest.mark.parametrize("name", ["wavlm_base_like", "wavlm_large_like"])
def test_normalised_input_equals_unilm(golden, tmp_path, name):
    case = golden(name)
    encoder = SpeechEncoder.from_foreign(foreign_file(tmp_path, case), normalized=True)
    with torch.inference_mode():
        assert_close(encoder(case.input["source"][:1], layer=2), case.output["normalized.output_layer2"])


@pytest.mark.parametrize(
    "name", ["hf_wavlm_base_like", "hf_wavlm_large_like", "hf_hubert_base_like", "hf_hubert_large_like"]
)
def test_golden_of_transformers(golden, tmp_path, name):
    case = golden(name)
    foreign_folder(tmp_path, case.config["model"], case.config["hf"], case.weights)
    encoder = SpeechEncoder.from_foreign(tmp_path, normalized=False)
    wav, lengths = case.input["input_values"], case.input["attention_mask"].sum(1)
    counts = encoder.num_frames(lengths)
    assert counts.tolist() == case.output["mask.feature_mask"].sum(1).tolist()
    with torch.inference_mode():
        for n, layer in enumerate(encoder.layers(wav)):
            assert_close(layer, case.output[f"nomask.hidden{n}"])
        assert_close(encoder(wav), case.output["nomask.last"])
        if encoder.config.conv_norm == "layer":
            masked = encoder.layers(wav, lengths)
        else:  # as above: their GroupNorm hears the padding
            masked = encoder.encode(encoder.features(wav), counts)
        for n, layer in enumerate(masked):
            assert_close(layer, case.output[f"mask.hidden{n}"], counts)


@pytest.mark.parametrize("name", ["hubert_pretrain_forward", "wav2vec2_pretrain_forward"])
def test_hubert_and_wav2vec2_equal_fairseq(golden, tmp_path, name):
    case = golden(name)
    encoder = SpeechEncoder.from_foreign(foreign_file(tmp_path, case))
    counts = (~case.output["frame_padding"]).sum(1)
    with torch.inference_mode():
        layers = encoder.encode(encoder.features(case.input["source"]), counts)
        assert_close(layers[1], case.output["layer1"], counts)
        assert_close(layers[2], case.output["layer2"], counts)
        assert_close(layers[2], case.output["features"], counts)


def test_masked_frames_equal_fairseq(golden, tmp_path):
    case = golden("hubert_pretrain_forward")
    encoder = SpeechEncoder.from_foreign(foreign_file(tmp_path, case))
    counts = (~case.output["frame_padding"]).sum(1)
    with torch.inference_mode():
        features = encoder.features(case.input["source"])
        masked = encoder.encode(features, counts, case.input["mask_indices"])[-1]
    assert_close(masked, case.output["masked_x"], counts)
    assert features.square().mean() == pytest.approx(case.output["features_pen"].item(), rel=1e-4)


def streams(model, output):
    """The residual stream after each block; before transformers 5.16, Large's last one is normalised, and left out."""
    states = output.hidden_states
    normalised = getattr(model.config, "do_stable_layer_norm", False) and torch.equal(
        states[-1], output.last_hidden_state
    )
    return states[:-1] if normalised else states


@pytest.mark.parametrize("kind", ["wavlm", "hubert", "wav2vec2"])
@pytest.mark.parametrize("shape", [{}, LARGE], ids=["base", "large"])
def test_random_weights_of_transformers(tmp_path, kind, shape):
    theirs = foreign_folder(tmp_path, kind, TINY | shape)
    ours = SpeechEncoder.from_foreign(tmp_path, normalized=False)
    torch.manual_seed(4)
    wav, lengths = torch.randn(3, 12_345) * 0.3, torch.tensor([12_345, 9_000, 4_321])
    wav = wav * valid_frames(lengths, 12_345)
    counts = ours.num_frames(lengths)
    with torch.inference_mode():
        for layer, want in zip(ours.layers(wav), streams(theirs, theirs(wav, output_hidden_states=True)), strict=False):
            assert_close(layer, want)
        mask = valid_frames(lengths, 12_345).long()
        masked = theirs(wav, attention_mask=mask, output_hidden_states=True)
        leaks = not shape  # GroupNorm
        layers = ours.encode(ours.features(wav), counts) if leaks else ours.layers(wav, lengths)
        for layer, want in zip(layers, streams(theirs, masked), strict=False):
            assert_close(layer, want, counts)


@pytest.mark.parametrize("name", WITH_HEADS)
def test_random_weights_with_heads(tmp_path, name):
    config_class, model_class, shape = WITH_HEADS[name]
    torch.manual_seed(3)
    codes = {"codevector_dim": 8, "proj_codevector_dim": 8, "num_codevectors_per_group": 4, "num_clusters": 5}
    theirs = model_class(config_class(**TINY | codes | shape)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    theirs.save_pretrained(tmp_path)
    ours, wav = SpeechEncoder.from_foreign(tmp_path, normalized=False), torch.randn(2, 6_000) * 0.3
    encoder = getattr(theirs, theirs.base_model_prefix, theirs)
    with torch.inference_mode():
        output = encoder(wav, output_hidden_states=True)
        for layer, want in zip(ours.layers(wav), streams(theirs, output), strict=False):
            assert_close(layer, want)
        assert_close(ours(wav), output.last_hidden_state)


def test_adapters_for_languages_are_refused(tmp_path):
    """MMS for recognition: without its adapters the encoder would be another one."""
    foreign_folder(tmp_path, "wav2vec2", TINY | LARGE | {"adapter_attn_dim": 8})
    with pytest.raises(ValueError, match="adapter_layer"):
        SpeechEncoder.from_foreign(tmp_path)


@pytest.mark.parametrize("shape", [{}, LARGE], ids=["base", "large"])
def test_padding_does_not_leak(tmp_path, shape):
    """A padded row is what it is alone. transformers' GroupNorm (and unilm's) hears the padding; ours does not."""
    theirs = foreign_folder(tmp_path, "wavlm", TINY | shape)
    ours = SpeechEncoder.from_foreign(tmp_path, normalized=False)
    torch.manual_seed(5)
    lengths = torch.tensor([12_000, 5_000])
    wav = torch.randn(2, 12_000) * 0.3 * valid_frames(lengths, 12_000)
    with torch.inference_mode():
        alone = theirs(wav[1:, :5_000]).last_hidden_state
        padded = theirs(wav, attention_mask=valid_frames(lengths, 12_000).long()).last_hidden_state
        leak = (padded[1, : alone.shape[1]] - alone[0]).abs().max()
        assert leak > 0.1 if not shape else leak < TOLERANCE
        assert_close(ours(wav, lengths)[1:, : alone.shape[1]], alone)


def test_position_buckets_equal_unilm(golden):
    case = golden("wavlm_relpos_buckets")
    assert torch.equal(relative_buckets(case.input["delta"], 320, 800), case.output["bucket"])
    bias = RelativePositionBias(heads=4, num_buckets=320, max_distance=800)
    bias.table.load_state_dict({"weight": case.weights["relative_attention_bias.weight"]})
    assert torch.equal(bias(110), case.output["bias"])
