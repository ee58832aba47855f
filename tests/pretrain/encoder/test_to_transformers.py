"""What transformers reads of ours: wav2vec 2.0 with its quantiser, data2vec, and no other shapes."""

from dataclasses import replace

import pytest
import torch
from transformers import Data2VecAudioModel, HubertModel, Wav2Vec2ForPreTraining

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.encoder.to_transformers import has_equal
from pretrain.objectives.wav2vec2 import Wav2Vec2, Wav2Vec2Settings

SMALL = {"conv_dim": 16, "dim": 32, "depth": 2, "heads": 4, "ffn_dim": 64, "pos_groups": 4}


@pytest.mark.parametrize("kind", ["base", "large"])
def test_wav2vec2_for_pretraining_is_ours(kind, tmp_path):
    torch.manual_seed(0)
    config = getattr(EncoderConfig, f"wav2vec2_{kind}")(**SMALL, pos_kernel=8)
    encoder = SpeechEncoder(replace(config, normalized=False)).eval()
    objective = Wav2Vec2(Wav2Vec2Settings(target_dim=12, code_dim=8, codes=5), encoder).eval()
    heads = {
        name: value
        for name, value in objective.state_dict().items()
        if f"objective.{name}".startswith(objective.exported)
    }
    encoder.save_transformers(tmp_path, heads)
    theirs, loading = Wav2Vec2ForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    wav = 0.2 * torch.randn(2, 8_000)
    mask = torch.zeros(2, 24, dtype=torch.bool)
    mask[:, 4:14] = True
    with torch.inference_mode():
        output = theirs.eval()(wav, mask_time_indices=mask)
        features = encoder.features(wav)
        frames = encoder.normalise_last(encoder.encode(features, mask=mask))[-1]
        torch.testing.assert_close(objective.project(frames), output.projected_states, atol=1e-5, rtol=1e-4)
        quantised = objective.quantiser(encoder.feature_norm(features).flatten(0, 1), 1.0)
        targets = objective.project_target(quantised.vectors).unflatten(0, (2, 24))
    torch.testing.assert_close(targets, output.projected_quantized_states, atol=1e-5, rtol=1e-4)


def test_data2vec_is_ours(tmp_path):
    torch.manual_seed(0)
    encoder = SpeechEncoder(EncoderConfig.data2vec_base(**SMALL, normalized=False)).eval()
    encoder.save_transformers(tmp_path)
    theirs, loading = Data2VecAudioModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    wav = 0.2 * torch.randn(1, 8_000)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(wav), theirs.eval()(wav).last_hidden_state, atol=1e-5, rtol=1e-4)
    again = SpeechEncoder.from_foreign(tmp_path)
    assert replace(again.config, layer_drop=0.05) == replace(encoder.config, layer_drop=0.05)
    assert again.fingerprint(2) == encoder.fingerprint(2)


def test_distilhubert_is_ours(tmp_path):
    torch.manual_seed(0)
    encoder = SpeechEncoder(EncoderConfig.hubert_base(**SMALL, pos_kernel=8, project_norm=False)).eval()
    encoder.save_transformers(tmp_path)
    wav = 0.2 * torch.randn(1, 8_000)
    with torch.inference_mode():
        theirs = HubertModel.from_pretrained(tmp_path).eval()(wav).last_hidden_state
        torch.testing.assert_close(encoder(wav), theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig.cpc(),
        EncoderConfig.wav2vec(),
        EncoderConfig.hubert_base(context="conformer"),
        EncoderConfig.hubert_base(position="none"),
        EncoderConfig.hubert_base(quantiser="gumbel"),
        EncoderConfig.wavlm_base(pos_depth=5),
        EncoderConfig.data2vec_base(pre_norm=True),
        EncoderConfig.tiny(),
    ],
)
def test_other_shapes_are_not(config, tmp_path):
    assert not has_equal(config)
    with torch.device("meta"):
        encoder = SpeechEncoder(config)
    with pytest.raises(ValueError, match="transformers has no encoder with frontend"):
        encoder.save_transformers(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
