"""The bundled model: it is there, small, what its card says, hears phones whoever speaks, and says them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

import ssl_vc
import ssl_vc.conversion.converter
from pretrain import SpeechEncoder
from ssl_vc import Extractor, VoiceConverter
from ssl_vc.audio import trim
from ssl_vc.conversion import vocoder_choice
from ssl_vc.evaluate.recogniser import load_recogniser
from ssl_vc.evaluate.spectral import mel_distance
from ssl_vc.evaluate.text_errors import word_errors
from ssl_vc.features.cepstra import DIM as CEPSTRA
from ssl_vc.hub.registry import BUNDLED, load_encoder, load_vocoder
from ssl_vc.tts.model import TextModel
from ssl_vc.tts.speak import load_text_model
from ssl_vc.units.codebook import Codebook
from ssl_vc.units.codec import UnitCodec, bitrate
from vocoder.griffin_lim import GriffinLim
from vocoder.hifigan import HiFiGAN
from vocoder.pitch import track_pitch
from vocoder.vocos import Vocos

TINY = BUNDLED / "tiny"
SAMPLES = Path(__file__).parents[2] / "demos" / "samples"
MAN, WOMAN = "source.flac", "emma.opus"
GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def extractor():
    return Extractor.from_pretrained("tiny")


def test_it_is_small_and_has_a_card():
    files = [path for path in TINY.rglob("*") if path.is_file()]
    for name, most in (("encoder", 16e6), ("vocoder", 17e6), ("hifigan", 8e6), ("units", 8e6), ("tts", 12e6)):
        assert 0 < sum(path.stat().st_size for path in (TINY / name).rglob("*") if path.is_file()) <= most
    assert sum(path.stat().st_size for path in files) <= 40e6
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in files)
    card = (TINY / "README.md").read_text(encoding="utf-8")
    for word in (
        "speechocean762",
        "LibriSpeech",
        "CC BY 4.0",
        "CC0",
        "configs/pretrain/tiny.yaml",
        "spoken-vocos",
        "spoken-hifigan",
        "configs/units/tiny.yaml",
        "configs/tts/tiny.yaml",
        "CMU pronouncing dictionary",
        "Limits",
    ):
        assert word in card


def tts_tensors(folder):
    model = TextModel.load(folder)
    timbres = [speaker.timbre for speaker in model.speakers]
    return [model.mean, model.deviation, *timbres, *model.acoustic.parameters(), *model.g2p.parameters()]


def codebook_tensors(folder):
    codebook = Codebook.load(folder / "book.safetensors")
    return [codebook.content.centres, codebook.pitch.centres, codebook.timbre, *codebook.prosody.parameters()]


LOADED = {
    "encoder": lambda folder: list(load_encoder(str(folder.parent)).parameters()),
    "vocoder": lambda folder: list(load_vocoder(str(folder.parent)).parameters()),
    "tts": tts_tensors,
    "units": codebook_tensors,
}


@pytest.mark.parametrize("part", LOADED)
def test_a_loaded_model_does_not_depend_on_its_files(part, tmp_path):
    shutil.copytree(TINY / part, tmp_path / part)
    if part == "encoder":  # bundled in half precision, where loading copies anyway
        load_encoder(str(tmp_path)).save_pretrained(tmp_path / part)
    tensors = LOADED[part](tmp_path / part)
    before = [tensor.clone() for tensor in tensors]
    for path in (tmp_path / part).rglob("*.safetensors"):
        with path.open("r+b") as file:
            file.write(b"\xff" * path.stat().st_size)
    assert all(map(torch.equal, tensors, before))


def test_its_layer_is_centred_and_the_last(extractor):
    encoder = SpeechEncoder.from_pretrained(TINY / "encoder")
    assert encoder.config.matching_layer == encoder.config.depth == extractor.spec.layer
    pure = Extractor(encoder, weight=0)
    frames = torch.cat([pure(SAMPLES / name) for name in (MAN, WOMAN)])
    assert float(frames.mean(0).norm()) < 0.5 * float(frames.norm(dim=1).mean())


def test_its_weights_are_what_the_card_says(extractor):
    facts = json.loads((TINY / "encoder" / "config.json").read_text(encoding="utf-8"))
    assert facts["frontend"] == "log_mel" and extractor.spec.cepstra == facts["cepstra"] == 0.5
    assert extractor.spec.dim == facts["dim"] + CEPSTRA == 280
    assert extractor.spec.encoder in (TINY / "README.md").read_text(encoding="utf-8")


def kept(extractor):
    """Say of how many frames of the man's speech the nearest one of the woman's is the same phone."""
    labels = json.loads((GOLDEN / "sample_phones.json").read_text(encoding="utf-8"))  # by pretrain.labels.align
    frames = {name: normalize(extractor(SAMPLES / name), dim=1) for name in (MAN, WOMAN)}
    nearest = (frames[MAN] @ frames[WOMAN].T).argmax(1).tolist()
    pairs = [(own, labels[WOMAN][other]) for own, other in zip(labels[MAN], nearest, strict=True)]
    spoken = [own == other for own, other in pairs if own]
    return sum(spoken) / len(spoken)


def test_it_hears_phones_whoever_speaks(extractor):
    nothing_learned = kept(Extractor.from_pretrained("untrained"))
    assert kept(extractor) > max(0.4, 2 * nothing_learned)


@pytest.mark.parametrize("vocoder", [None, "griffin-lim", "world"])
def test_a_man_speaks_as_a_woman(vocoder, median_pitch):
    if vocoder == "world":
        pytest.importorskip("pyworld", reason="needs the extra `world`")
    vc = VoiceConverter.from_pretrained(vocoder=vocoder)
    sounds = [ssl_vc.read(SAMPLES / name) for name in (MAN, WOMAN)]
    wav = vc.convert(sounds[0], vc.enroll(sounds[1][: 12 * 16_000]))
    assert len(wav) == len(sounds[0])
    low, high, now = map(median_pitch, (*sounds, wav))
    assert 1.3 * low < high
    assert now == pytest.approx(high, rel=0.12)


@pytest.fixture(scope="module")
def vc():
    return VoiceConverter.from_pretrained()


def test_its_own_vocoder_speaks_and_needs_no_other_package(vc):
    assert isinstance(vc.vocoder, Vocos) and vc.vocoder.config.harmonic
    assert vc.vocoder.reads["encoder"] == vc.extractor.spec.encoder


def test_its_hifigan_reads_the_same_voices(vc):
    other = VoiceConverter.from_pretrained("tiny-hifigan")
    assert isinstance(other.vocoder, HiFiGAN) and other.vocoder.reads == vc.vocoder.reads
    source, target = (ssl_vc.read(SAMPLES / name) for name in (MAN, WOMAN))
    wav = other.convert(source[:32_000], vc.enroll(target[: 8 * 16_000]), matcher="knn")
    assert len(wav) == 32_000 and bool(wav.isfinite().all())


def test_its_units_say_the_same_in_few_bits(median_pitch):
    """Another text, said by the same units at the same rate, is farther away; so are the right ones in disorder."""
    wav, codec = trim(ssl_vc.read(SAMPLES / MAN)), UnitCodec.from_pretrained()
    units = codec.encode(wav)
    rates = bitrate(units)
    assert rates["content"] + rates["pitch"] < 400 and len(units.to_bytes()) < 600
    copy = codec.decode(units, loudness=None)
    assert mel_distance(wav, copy) < 1.2
    mixed = replace(units, ids=units.ids[torch.randperm(len(units.ids), generator=torch.Generator().manual_seed(0))])
    assert mel_distance(wav, copy) < 0.7 * mel_distance(wav, codec.decode(mixed, loudness=None))
    assert median_pitch(copy) == pytest.approx(median_pitch(wav), rel=0.06)


def test_a_copy_is_as_the_original():
    """Envelope and melody come back; random weights, and other frames, do not do that."""
    wav = ssl_vc.read(SAMPLES / MAN)
    copy = ssl_vc.copy_synthesis(wav, "spoken", "vocos")
    assert len(copy) == len(wav)
    assert mel_distance(wav, copy) < 0.4
    heard, again = track_pitch(wav), track_pitch(copy)
    both = (heard > 0) & (again > 0)
    assert float(both.float().mean()) > 0.8 * float((heard > 0).float().mean())
    assert float((heard / again)[both].log2().abs().median()) < 0.02


def test_the_pitch_can_be_chosen(vc, median_pitch):
    source, target = (ssl_vc.read(SAMPLES / name) for name in (MAN, WOMAN))
    voice, heard = vc.enroll(target[: 12 * 16_000]), vc.encode(source)
    own, higher = (median_pitch(vc.convert(heard, voice, pitch=pitch)) for pitch in (0, 4))
    assert own == pytest.approx(median_pitch(source), rel=0.05)
    assert higher / own == pytest.approx(2 ** (4 / 12), rel=0.05)


def test_without_world_griffin_lim_speaks(monkeypatch, caplog):
    def missing():
        raise ValueError("WORLD needs pyworld, which is not installed; pip install 'ssl-vc[world]'.")

    monkeypatch.setattr(vocoder_choice, "World", missing)
    vc = VoiceConverter.from_pretrained("untrained")
    assert isinstance(vc.vocoder, GriffinLim)
    assert "falling back to griffin-lim" in caplog.text and "pip install 'ssl-vc[world]'" in caplog.text


# sentences of this file's own, so that nothing can have learned them
SAID = [
    "The grey cat slept on a warm stone by the river.",
    "Nobody expected the small red boat to win.",
    "We will meet again at the old bridge tomorrow.",
    "A cold wind came down from the mountains at night.",
]


@pytest.mark.parametrize("blend", [0, 1])
def test_it_says_what_is_written(vc, blend, median_pitch):
    tts = ssl_vc.TextToSpeech(load_text_model(), vc)
    voice = vc.enroll(SAMPLES / WOMAN)
    wavs = [ssl_vc.read((tts.speak(text, voice, blend=blend), tts.sample_rate)) for text in SAID]
    assert all(1.5 < len(wav) / 16_000 < 5 for wav in wavs)
    heard = load_recogniser("pocketsphinx", SAID, workers=1)(wavs)
    errors = [word_errors(said, text) for said, text in zip(SAID, heard, strict=True)]
    assert sum(each.errors for each in errors) <= 0.1 * sum(each.length for each in errors)
    level = voice.pitch.median if blend else tts.model.speakers[0].median_f0
    assert median_pitch(torch.cat(wavs)) == pytest.approx(level, rel=0.12)
