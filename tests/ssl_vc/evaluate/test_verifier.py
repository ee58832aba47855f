"""Speaker verifiers. x-vector models are tiny and random; resemblyzer is the real one, where it is installed."""

import json
import socket
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

import ssl_vc
from ssl_vc.evaluate import verifier as module
from ssl_vc.evaluate.similarity import centroid, natural_similarity
from ssl_vc.evaluate.verifier import load_verifier

DATA = Path(__file__).parents[4] / "shared" / "data"
RATE = 16_000
needs_resemblyzer = pytest.mark.skipif(find_spec("resemblyzer") is None, reason="resemblyzer is not installed (eval)")
SHAPE = {
    "conv_dim": [16] * 7,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "tdnn_dim": [16, 16, 16, 16, 32],
    "xvector_output_dim": 24,
}


def same(one, other):
    """Say whether two vectors are of one sound: where numpy put it in memory moves their last bits."""
    return torch.allclose(one, other, rtol=0, atol=1e-6)


@pytest.fixture
def folder(tmp_path):
    """Write a random x-vector model of a sample rate, after applying `change`."""

    def make(rate=RATE, change=lambda model: None):
        torch.manual_seed(1)
        model = WavLMForXVector(WavLMConfig(**SHAPE)).eval()
        change(model)
        model.save_pretrained(tmp_path / "x-vector")
        Wav2Vec2FeatureExtractor(sampling_rate=rate).save_pretrained(tmp_path / "x-vector")
        return str(tmp_path / "x-vector")

    return make


@pytest.fixture(scope="module")
def resemblyzer():
    return load_verifier("resemblyzer", device="cpu")


@pytest.fixture(params=[pytest.param("resemblyzer", marks=needs_resemblyzer), "x-vector"])
def verifier(request, folder):
    if request.param == "resemblyzer":
        return request.getfixturevalue("resemblyzer")
    return load_verifier(folder(), device="cpu")


def test_embeddings_have_unit_length_and_are_independent(verifier, speech):
    first, second = speech(2.0, text=1), speech(3.1, pitch=220.0, size=1.2, text=2)
    before = first.clone()
    vector = verifier(first)
    assert vector.ndim == 1
    assert (vector.dtype, vector.device.type) == (torch.float32, "cpu")
    assert vector.norm() == pytest.approx(1, abs=1e-6)
    assert not vector.requires_grad
    other = verifier(second)
    assert same(verifier(first), vector)
    assert same(verifier(second), other)
    assert torch.equal(first, before)
    assert vector @ other < 0.999


def test_it_says_who_judges(verifier):
    assert all(number in verifier.description for number in verifier.versions.values())
    assert all(name in verifier.description for name in verifier.versions)


@pytest.mark.parametrize("wav", [torch.zeros(0), torch.zeros(RATE), torch.full((RATE,), 5e-5)])
def test_silence_has_no_speaker(verifier, wav):
    with pytest.raises(ValueError, match=r"^the audio .*; speaker verification needs 0\.5 s of speech or more\.$"):
        verifier(wav)


def test_half_a_second_is_needed(verifier, speech):
    with pytest.raises(ValueError, match=r"the audio lasts 0\.4\d s"):
        verifier(speech(0.5)[:-200])


@needs_resemblyzer
def test_sound_without_speech_has_no_speaker(resemblyzer, speech):
    hiss = 0.001 * torch.randn(3 * RATE, generator=torch.Generator().manual_seed(0))
    syllable = torch.cat([torch.zeros(RATE), speech(0.15), torch.zeros(2 * RATE - 2400)])
    for wav in (hiss, syllable):
        with pytest.raises(ValueError, match=r"^only 0\.\d of 3\.0 s are speech; .* needs 0\.5 s or more\.$"):
            resemblyzer(wav)


@needs_resemblyzer
def test_made_speakers_are_nearer_to_themselves(resemblyzer, speech):
    speakers = {"low": (100.0, 1.0), "high": (230.0, 1.25)}
    vectors = {
        name: torch.stack([resemblyzer(speech(3.0, pitch=pitch, size=size, text=text)) for text in range(3)])
        for name, (pitch, size) in speakers.items()
    }
    found = natural_similarity(vectors)
    assert found.same > found.other + 0.1


@needs_resemblyzer
def test_pauses_do_not_count(resemblyzer, speech):
    wav = speech(3.0)
    vector = resemblyzer(wav)
    assert vector @ resemblyzer(torch.cat([wav, torch.zeros(4 * RATE)])) > 0.97


@needs_resemblyzer
@pytest.mark.parametrize("gain", [0.05, 0.3, 6.0])
def test_how_loud_a_sound_is_does_not_count(resemblyzer, speech, gain):
    wav = speech(2.0)
    assert resemblyzer(gain * wav) @ resemblyzer(wav) > 0.9999


@needs_resemblyzer
def test_real_speakers_are_nearer_to_themselves_than_to_others(resemblyzer):
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data")
    vectors = {}
    for speaker in ("vctk/p225", "vctk/p226", "librispeech-6khz/1462"):
        files = [file for file in sorted((DATA / speaker).iterdir()) if len(ssl_vc.read(file)) > 3 * RATE][:3]
        assert len(files) == 3
        vectors[speaker] = torch.stack([resemblyzer(ssl_vc.read(file)) for file in files])
    found = natural_similarity(vectors)
    assert found.same > 0.85
    assert found.other < 0.75
    assert found.eer == 0


@needs_resemblyzer
def test_what_its_package_warns_of_stays_inside(resemblyzer):
    with warnings.catch_warnings(record=True, action="always") as caught:
        load_verifier("resemblyzer", device="cpu")
    assert not caught


def test_without_resemblyzer_the_cure_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    with pytest.raises(ValueError, match=r"resemblyzer is missing; pip install 'ssl-vc\[eval\]'\.$"):
        load_verifier("resemblyzer")


def test_an_x_vector_is_what_transformers_gives(folder, speech):
    name, wav = folder(), speech(2.0)
    inputs = Wav2Vec2FeatureExtractor.from_pretrained(name)(wav.numpy(), sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        expected = WavLMForXVector.from_pretrained(name).eval()(**inputs).embeddings[0]
    vector = load_verifier(name, device="cpu")(wav)
    assert vector.shape == (24,)
    assert torch.allclose(vector, normalize(expected, dim=0), atol=1e-6)


def test_weights_of_16_bits_are_computed_in_32(folder, speech):
    exact = load_verifier(folder(), device="cpu")(speech(1.0))
    halved = load_verifier(folder(change=lambda model: model.half()), device="cpu")(speech(1.0))
    assert halved.dtype == torch.float32
    assert halved @ exact > 0.999


def test_long_audio_is_split_into_even_segments(folder, speech, monkeypatch):
    verifier, wav = load_verifier(folder(), device="cpu"), speech(2.4)
    whole = verifier(wav)
    monkeypatch.setattr(module, "LONGEST", RATE)
    thirds = wav.split(round(0.8 * RATE))
    assert same(verifier(wav), centroid(torch.stack([verifier(third) for third in thirds])))
    assert not same(verifier(wav), whole)
    assert verifier(wav) @ whole > 0.9


def test_weights_are_known_by_their_fingerprint(folder):
    def alter(part):
        def change(model):
            with torch.no_grad():
                model.get_parameter(part).view(-1)[0] += 1e-3

        return change

    def fingerprint(**how):
        name = folder(**how)
        return load_verifier(name, device="cpu").versions[name]

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(change=alter("tdnn.1.kernel.weight")) != first
    assert fingerprint(change=alter("classifier.weight")) == first  # a vector does not come from it


def test_an_encoder_without_a_speaker_head_is_refused(folder):
    """transformers would fill what is missing with random numbers."""
    name = folder()
    WavLMForXVector.from_pretrained(name).wavlm.save_pretrained(name)
    with pytest.raises(ValueError, match=r"is no x-vector model: \d+ of its weights are missing \(such as "):
        load_verifier(name, device="cpu")


def test_a_model_that_was_saved_without_its_training_is_good(folder, speech):
    vector = load_verifier(folder(), device="cpu")(speech(1.0))

    def strip(model):
        del model.classifier, model.objective

    name = folder(change=strip)
    assert same(load_verifier(name, device="cpu")(speech(1.0)), vector)
    assert load_verifier(name, device="cpu").versions == load_verifier(folder(), device="cpu").versions


def test_a_model_of_another_rate_is_refused(folder):
    with pytest.raises(ValueError, match="expects 8000 Hz; use a model for 16000 Hz"):
        load_verifier(folder(rate=8000), device="cpu")


@pytest.mark.parametrize("damage", ["no weights", "half the weights", "no preprocessor", "no config", "another kind"])
def test_a_folder_that_is_no_model_is_named(folder, damage):
    name = folder()
    weights, config = Path(name, "model.safetensors"), Path(name, "config.json")
    if damage == "no weights":
        weights.unlink()
    elif damage == "half the weights":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif damage == "no preprocessor":
        Path(name, "preprocessor_config.json").unlink()
    elif damage == "no config":
        config.write_text("{")
    else:
        config.write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match=r"x-vector is no x-vector model that transformers can load \(.+\); use a h"):
        load_verifier(name, device="cpu")


def test_a_name_that_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    for name in ("resemblizer", "", "a/b/c", "a/file"):
        with pytest.raises(
            ValueError, match=r"^there is no verifier .*; possible are a file .*onnx, resemblyzer, and the fold"
        ):
            load_verifier(name)


def test_offline_only_the_cache_of_the_hub_is_looked_at(folder, tmp_path, monkeypatch):
    asked = []

    def refuse(*where, **how):
        asked.append(where)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ValueError, match=r"^somebody/x is neither a folder nor in the cache of the hub, and downloads"):
        load_verifier("somebody/x", device="cpu", offline=True)
    cache = tmp_path / "hub" / "models--somebody--x"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    (cache / "snapshots").mkdir()
    Path(folder()).rename(cache / "snapshots" / ("0" * 40))
    found = load_verifier("somebody/x", device="cpu", offline=True)
    assert list(found.versions) == ["transformers", "somebody/x"]
    assert not asked


def test_a_device_that_is_none_is_refused():
    with pytest.raises(ValueError, match="the device 'gpu' is not known"):
        load_verifier("resemblyzer", device="gpu")
