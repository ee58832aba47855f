"""Disentangled frames: their columns, which of them a conversion takes from the source, and what a vocoder gets."""

import pytest
import torch
from torch.nn.functional import normalize, pad

from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.evaluate.spectral import mel_distance
from ssl_vc.features import cepstra, disentangled, waveform
from ssl_vc.features.disentangled import DisentangledAnalysis, disentangled_layout, interpolated_log_f0
from ssl_vc.features.extractor import Extractor
from ssl_vc.features.waveform import WaveformFile
from ssl_vc.match.knn import KNN
from ssl_vc.voice.voice import Voice
from vocoder.mel import Mel, MelConfig
from vocoder.pitch import track_pitch
from vocoder.vocos import Vocos, VocosConfig

RATE, DIM = 16_000, 32
SMALL = {"conv_dim": 16, "dim": DIM, "depth": 3, "heads": 4, "ffn_dim": 64, "matching_layer": 2}
WOMAN = {"pitch": 210.0, "size": 1.2}


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["pure", "beside cepstra"])
def extractor(request):
    torch.manual_seed(0)
    return Extractor(SpeechEncoder(EncoderConfig.tiny(**SMALL, cepstra=request.param)).eval())


@pytest.fixture(scope="module")
def vc(extractor):
    speech = DisentangledAnalysis(extractor)
    shape = VocosConfig(dim=speech.feature_spec["dim"], width=16, ffn_dim=32, depth=1, reads=speech.feature_spec)
    torch.manual_seed(0)
    return VoiceConverter(extractor, "knn", Vocos(shape).eval())


@pytest.fixture(scope="module")
def anna(vc, speech):
    return vc.enroll((speech(8, text=1, **WOMAN), RATE), "anna")


@pytest.fixture(scope="module")
def source(speech):
    return speech(3, text=2)


def test_what_is_in_a_frame(extractor, source):
    wav = source[:-100]
    makes = DisentangledAnalysis(extractor)
    frames, parts = torch.cat(list(makes(wav))), disentangled_layout(makes.feature_spec)
    assert frames.shape == (-(-len(wav) // 320), makes.feature_spec["dim"])
    whole = pad(wav, (0, -len(wav) % 320))
    pitch = track_pitch(whole)
    assert torch.equal(frames[:, parts.voicing][:, 0] > 0, pitch > 0)
    voiced = pitch > 0
    torch.testing.assert_close(frames[voiced, parts.pitch][:, 0].exp(), pitch[voiced])
    spectra = Mel(MelConfig(n_fft=400, hop_length=160))(whole[None])[0]  # two to a frame
    envelope, loudness = frames[:, parts.envelope].reshape(-1, 2, 80), frames[:, parts.loudness]
    torch.testing.assert_close(envelope + loudness[..., None], spectra.view(-1, 2, 80))
    torch.testing.assert_close(envelope.exp().mean((1, 2)), torch.ones(len(frames)))
    heard = Extractor(extractor.encoder, 2, weight=0)(wav, every_hop=True)
    torch.testing.assert_close(frames[:, parts.content], DIM**0.5 * normalize(heard - heard.mean(0), dim=1))
    timbre = frames[:, parts.envelope.stop :]
    assert timbre.shape[1] == 80 and bool((timbre == timbre[0]).all())
    loud = loudness[:, 0].topk(round(0.6 * len(frames))).indices
    torch.testing.assert_close(timbre[0], envelope[loud].mean((0, 1)))


@pytest.mark.parametrize("cut", [0, 100, 159])
def test_of_a_long_clip_only_parts_are_in_memory(vc, speech, cut, monkeypatch):
    """And yet the frames are the same."""
    wav = speech(16, text=2)[: 16 * RATE - cut]
    whole = torch.cat(list(vc.encode(wav).vocoder_frames()))
    monkeypatch.setattr(waveform, "LONG", 1)
    for module in (cepstra, disentangled):
        monkeypatch.setattr(module, "BLOCK", 40)
    heard = vc.encode(wav)
    lengths, read = [], WaveformFile.__getitem__
    monkeypatch.setattr(WaveformFile, "__getitem__", lambda *args: lengths.append(len(read(*args))) or read(*args))
    frames = torch.cat(list(heard.vocoder_frames()))
    assert 0 < max(lengths) < 0.8 * len(wav)
    torch.testing.assert_close(frames, whole, atol=2e-4, rtol=1e-4)
    count = len(lengths)
    assert torch.equal(torch.cat(list(heard.vocoder_frames())), frames) and len(lengths) == count  # for the next voice


def test_pitch_goes_on_through_what_is_unvoiced():
    line = interpolated_log_f0(torch.tensor([0.0, 100.0, 0.0, 0.0, 200.0, 0.0])).exp()
    torch.testing.assert_close(line, torch.tensor([100.0, 100.0, 2 ** (1 / 3) * 100, 2 ** (2 / 3) * 100, 200.0, 200.0]))
    assert torch.allclose(interpolated_log_f0(torch.zeros(3)).exp(), torch.tensor(150.0))


def test_a_source_is_heard_once(vc, source, monkeypatch):
    calls = []
    stream = Extractor.stream
    monkeypatch.setattr(Extractor, "stream", lambda self, *args, **kw: calls.append(1) or stream(self, *args, **kw))
    heard = vc.encode(source)
    (matched,), (spoken,) = heard.query_frames(), heard.vocoder_frames()
    assert len(matched) == len(spoken) and len(calls) == 1
    torch.testing.assert_close(spoken, torch.cat(list(DisentangledAnalysis(vc.extractor)(source))))


def given_to(vocoder, monkeypatch):
    """Record what a vocoder makes sound of."""
    given, generate = [], vocoder.generate
    monkeypatch.setattr(vocoder, "generate", lambda rows: given.append(rows[0]) or generate(rows))
    return given


def test_the_target_gives_the_spectrum_and_the_source_the_rest(vc, anna, source, monkeypatch):
    given = given_to(vc.vocoder, monkeypatch)
    wav = vc.convert(source, anna, k=3, loudness=None)
    assert len(wav) == len(source)
    frames = given[0]
    heard = vc.encode(source)
    (own,), pool, parts = heard.vocoder_frames(), vc.pool(anna), vc.layout
    (match,) = KNN(3)(heard.query_frames(), pool)
    for columns in (parts.voicing, parts.loudness, parts.content):
        assert torch.equal(frames[:, columns], own[: len(frames), columns])
    theirs = slice(parts.envelope.start, None)
    torch.testing.assert_close(frames[:, theirs], match.frames[: len(frames), theirs])
    voiced = own[:, parts.voicing][:, 0] > 0
    median = float(frames[voiced[: len(frames)], parts.pitch].median().exp())
    assert median == pytest.approx(anna.pitch.median, rel=0.02)


def test_pitch_can_be_chosen(vc, anna, source):
    kept, matched, higher = (vc.convert(source, anna, pitch=pitch, loudness=None) for pitch in ("keep", "match", 5))
    assert torch.equal(kept, matched)
    assert not torch.equal(higher, kept)


def test_a_voice_file_keeps_them(vc, anna, tmp_path, source):
    anna.save(tmp_path / "anna.voice")
    again = Voice.load(tmp_path / "anna.voice")
    assert again.feature_spec["kind"] == "spoken"
    assert torch.equal(vc.convert(source, again), vc.convert(source, anna))


def test_another_encoder_is_refused(vc, anna):
    torch.manual_seed(1)
    other = Extractor(SpeechEncoder(EncoderConfig.tiny(**SMALL, cepstra=vc.extractor.spec.cepstra)).eval())
    with pytest.raises(ValueError, match="this spoken analysis does not fit this vocoder: encoder is"):
        VoiceConverter(other, "knn", vc.vocoder)


def live(vc, wav, voice, **options):
    stream = vc.stream(voice, **options)
    return torch.cat([*(stream(chunk) for chunk in wav.split(1_600)), stream.finish()])


def test_live_it_is_near_what_convert_gives(vc, anna, speech, monkeypatch, median_pitch):
    source = speech(4, text=2)
    wav = live(vc, source, anna, pitch=3, lookahead=1.0)
    assert len(wav) == len(source)
    offline = vc.convert(source, anna, pitch=3, loudness=None)
    other = vc.convert(source, anna, pitch=3, loudness=None, blend=0)
    late = slice(2 * RATE, None)  # when the clip's mean is known
    assert mel_distance(offline[late], wav[late]) < 0.4 * mel_distance(offline[late], other[late])
    given = given_to(vc.vocoder, monkeypatch)
    assert live(vc, source, anna, blend=0.5).isfinite().all()
    voiced = torch.cat(
        [rows[-5:, vc.layout.pitch][rows[-5:, vc.layout.voicing] >= 0.5] for rows in given[len(given) // 2 :]]
    )
    assert float(voiced.median().exp()) == pytest.approx((anna.pitch.median * median_pitch(source)) ** 0.5, rel=0.05)
