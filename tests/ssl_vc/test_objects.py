"""Models as Python objects: options that an IDE sees, devices, pickles, and what they print."""

import copy
import inspect
import pickle
import typing

import pytest
import torch

import ssl_vc
from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc.conversion.options import ConversionOptions
from ssl_vc.options import OPTIONS
from ssl_vc.tts.speak import SpeechOptions


@pytest.fixture(scope="module")
def vc():
    return ssl_vc.VoiceConverter.from_pretrained("tiny", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def voice(vc, speech):
    return vc.enroll(speech(2.0, text=1), "anna")


@pytest.fixture(scope="module")
def codec():
    return ssl_vc.UnitCodec.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def tts(vc):
    return ssl_vc.TextToSpeech(ssl_vc.tts.speak.load_text_model(), vc)


def options(function):
    """The keyword options of a function, as (name, default)."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_convert_has_the_options_and_defaults_of_convert_detailed():
    explicit = options(ssl_vc.VoiceConverter.convert)
    assert explicit == options(ssl_vc.VoiceConverter.convert_detailed)
    assert {*explicit} - {"progress"} == {*OPTIONS} == {*ConversionOptions.__annotations__}


def test_speak_has_the_options_of_stream():
    stream = ssl_vc.TextToSpeech.stream
    hints = {name: hint for name, hint in typing.get_type_hints(stream).items() if name in options(stream)}
    assert typing.get_type_hints(SpeechOptions) == hints
    assert typing.get_type_hints(ssl_vc.TextToSpeech.speak)["options"] == typing.Unpack[SpeechOptions]


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_encoders_are_pickled(protocol):
    encoder = SpeechEncoder(EncoderConfig.tiny(dim=16, heads=2, depth=1, ffn_dim=16, pos_groups=2)).eval()
    encoder.project.requires_grad_(False)
    state = torch.random.get_rng_state()
    same = pickle.loads(pickle.dumps(encoder, protocol))
    assert torch.equal(torch.random.get_rng_state(), state)
    wav = torch.randn(1, 4000)
    for other in (same, copy.deepcopy(encoder), copy.deepcopy(same)):
        assert torch.equal(other(wav), encoder(wav)) and other.fingerprint(1) == encoder.fingerprint(1)
        assert [each.requires_grad for each in other.parameters()] == [p.requires_grad for p in encoder.parameters()]
    same(wav).sum().backward()
    position = dict(same.transformer.named_parameters())["position.conv.parametrizations.weight.original1"]
    assert position.grad is not None and position.grad.abs().max() > 0


def test_converters_and_voices_are_pickled(vc, voice, speech):
    vc.convert(speech(0.5), voice)  # its pool is in memory
    same, same_voice = pickle.loads(pickle.dumps((vc, voice)))
    assert torch.equal(same.convert(speech(0.5), same_voice), vc.convert(speech(0.5), voice))
    assert same_voice.origins == voice.origins and torch.equal(same_voice.frames, voice.frames)


def test_synthesizers_and_codecs_are_pickled(tts, codec, speech):
    same_tts, same_codec = pickle.loads(pickle.dumps((tts, codec)))
    assert torch.equal(same_tts.speak("Hello."), tts.speak("Hello."))
    units = codec.encode(speech(0.5))
    assert torch.equal(same_codec.decode(units), codec.decode(units))


def on_meta(module):
    return {each.device.type for each in (*module.parameters(), *module.buffers())} == {"meta"}


def test_models_move_to_a_device(monkeypatch):
    """To the device `meta`, which every machine has; nothing can be computed there."""
    vc, codec = ssl_vc.VoiceConverter.from_pretrained(), ssl_vc.UnitCodec.from_pretrained()
    tts = ssl_vc.TextToSpeech(ssl_vc.tts.speak.load_text_model(), vc)
    monkeypatch.setattr("ssl_vc.features.extractor.choose_device", torch.device)
    dtype = vc.extractor.dtype
    assert tts.to("meta") is tts and vc.to(torch.device("meta")) is vc and codec.to("meta") is codec
    for module in (vc.extractor.encoder, vc.vocoder, tts.model.acoustic, codec.vocoder, codec.analyzer.analysis.mel):
        assert on_meta(module)
    assert on_meta(vc.analysis.frames.mel)
    assert on_meta(codec.analyzer.extractor.encoder) and vc.extractor.device == torch.device("meta")
    assert vc.extractor.dtype == dtype == next(vc.extractor.encoder.parameters()).dtype


def test_moving_drops_what_is_on_the_old_device(vc, voice, speech):
    wanted, pool, source = vc.convert(speech(0.5), voice), vc.pool(voice), vc.encode(speech(0.5))
    assert vc.pool(voice) is pool
    assert vc.to("cpu").pool(voice) is not pool
    assert torch.equal(vc.convert(source, voice), wanted)  # what was encoded before remains usable


def test_an_unknown_device_is_refused(vc):
    with pytest.raises(ValueError, match="the device 'tpu' is not known; possible are auto, cpu"):
        vc.to("tpu")


def test_what_models_print_is_short_and_says_what_they_are(vc, voice, tts, codec):
    spec = vc.extractor.spec
    extractor = f"Extractor(encoder {spec.encoder}, layer {spec.layer}, {spec.dim} dimensions, cpu, float32)"
    assert repr(vc.extractor) == extractor
    assert repr(vc) == f"VoiceConverter({extractor}, matcher auto, vocoder Vocos at {vc.sample_rate} Hz)"
    assert repr(tts) == f"TextToSpeech(speakers {', '.join(tts.speakers)}; {vc!r})"
    assert repr(voice) == f"Voice('anna', {voice.seconds:.1f} s, encoder {spec.encoder}, layer {spec.layer})"
    book = codec.codebook
    assert repr(codec).startswith(f"UnitCodec({book.fingerprint}, {book.clusters} units, Extractor(")
    assert max(len(repr(each)) for each in (vc, voice, tts, codec)) < 300
