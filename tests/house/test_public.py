"""The public surface is what the design says it is, no more and no less."""

import inspect

import pretrain
import ssl_vc
import vocoder
from ssl_vc.cli import app

# the interface
NAMES = {"VoiceConverter", "Voice", "Extractor", "UnitCodec", "TextToSpeech", "copy_synthesis", "write"}
NAMES_ADDED = {"AudioError", "FrameSpec", "Units", "read", "read_frames"}
VOCODERS = {"HiFiGAN", "Vocos", "BigVGAN", "GriffinLim", "World", "UnitHiFiGAN"}
COMMANDS = {
    *("convert", "voice", "batch", "speak", "copy-synth", "units", "extract", "pretrain", "label", "prematch"),
    *("train-vocoder", "train-units", "train-tts", "probe", "evaluate", "models", "demo", "make-parallel"),
}


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_names():
    assert set(ssl_vc.__all__) == NAMES | NAMES_ADDED
    assert set(dir(ssl_vc)) >= set(ssl_vc.__all__)
    for name in ssl_vc.__all__:
        assert getattr(ssl_vc, name).__doc__
    assert set(vocoder.__all__) == VOCODERS | {"Mel", "Mfcc"}
    assert set(pretrain.__all__) == {"SpeechEncoder", "EncoderConfig", "WeightedSum"}


def test_unknown_names_are_errors():
    assert not hasattr(ssl_vc, "Convertor")


def test_commands():
    names = {command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    assert names == COMMANDS


def test_signatures_of_the_encoder():
    encoder = pretrain.SpeechEncoder
    assert parameters(encoder.layers)[:3] == ["wav", "lengths", "upto"]
    assert parameters(encoder.forward)[:3] == ["wav", "lengths", "layer"]
    assert parameters(encoder.num_frames) == ["num_samples"]
    assert parameters(ssl_vc.Extractor.from_pretrained)[:2] == ["name", "layer"]
    assert parameters(ssl_vc.write)[:3] == ["path", "wav", "sample_rate"]


def test_signatures_of_the_converter():
    converter = ssl_vc.VoiceConverter
    assert parameters(converter.from_pretrained)[0] == "name"
    assert parameters(converter.enroll)[:2] == ["sources", "name"]
    assert parameters(converter.converted)[:2] == parameters(converter.convert)[:2] == ["source", "voice"]
    assert {"matcher", "k", "blend", "pitch", "speed", "loudness"} <= set(parameters(converter.converted))
    assert parameters(converter.convert_batch)[:3] == ["jobs", "out_dir", "resume"]
    assert parameters(ssl_vc.Voice.mix)[0] == "parts"
