"""A conversion is as long as its source, sounds like its target, is the same every time, and refuses what cannot be."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import soundfile
import torch

import ssl_vc
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.conversion.prosody import ProsodyTransfer
from ssl_vc.evaluate.spectral import mel_cepstral_distortion
from ssl_vc.features.extractor import Extractor
from ssl_vc.hub.registry import load_encoder
from ssl_vc.loudness import loudness
from ssl_vc.match.knn import KNN
from ssl_vc.match.protocol import jump
from vocoder.griffin_lim import GriffinLim
from vocoder.mel import Mel, MelConfig
from vocoder.pitch import track_pitch
from vocoder.vocos import Vocos, VocosConfig
from vocoder.world import World, WorldConfig

RATE = 16_000
SLIM = {"width": 16, "ffn_dim": 32, "depth": 1}
WOMAN = {"pitch": 210.0, "size": 1.2}
needs_world = pytest.mark.skipif(find_spec("pyworld") is None, reason="pyworld is not installed (extra world)")


def vocos(reads, dim=256, **shape):
    torch.manual_seed(0)
    return Vocos(VocosConfig(dim=dim, reads=reads, **SLIM, **shape)).eval()


@pytest.fixture(scope="module")
def extractor():
    return Extractor.from_pretrained("untrained", 2)


@pytest.fixture(scope="module")
def vc(extractor):
    """A converter whose vocoder reads the frames that are matched; its weights are random."""
    return VoiceConverter(extractor, "knn", vocos(extractor.spec.feature_spec))


@pytest.fixture(scope="module")
def anna(vc, speech):
    return vc.enroll((speech(8, text=1, **WOMAN), RATE), "anna")


@pytest.fixture(scope="module")
def source(speech):
    return speech(3, text=2)


@pytest.fixture(scope="module")
def world(extractor):
    if find_spec("pyworld") is None:
        pytest.skip("pyworld is not installed (extra world)")
    return VoiceConverter(extractor, "knn")


@pytest.fixture(scope="module")
def world_anna(world, speech):
    return world.enroll([(speech(4, text=text, **WOMAN), RATE) for text in (1, 3)], "anna")


@pytest.fixture(scope="module")
def heard(world, source):
    return world.encode(source)  # WORLD's analysis is slow


@pytest.mark.parametrize("samples", [400, 719, 16_000, 16_001, 16_319, 16_320, 16_321])
def test_exactly_as_long_as_the_source(vc, anna, source, samples):
    assert vc.convert(source[:samples], anna).shape == (samples,)


@pytest.mark.parametrize(("shape", "rate"), [({"sample_rate": 24_000, "n_fft": 1920, "hop": 480}, 24_000), ({}, RATE)])
def test_at_the_vocoders_rate(extractor, anna, source, shape, rate):
    vc = VoiceConverter(extractor, "knn", vocos(extractor.spec.feature_spec, **shape))
    assert vc.sample_rate == rate
    assert len(vc.convert(source[:16_001], anna)) == round(16_001 * rate / RATE)


def test_any_source_is_taken(vc, anna, source, tmp_path):
    stereo = torch.stack([source, source], 1).numpy()
    soundfile.write(tmp_path / "stereo.wav", stereo, 32_000)
    assert len(vc.convert(tmp_path / "stereo.wav", anna)) == len(source) // 2
    assert len(vc.convert((stereo, 48_000), anna)) == len(source) // 3


def test_the_same_every_time(vc, anna, source):
    assert torch.equal(vc.convert(source, anna), vc.convert(source, anna))
    again = VoiceConverter(vc.extractor, "knn", vc.vocoder)
    assert torch.equal(again.convert(source, anna), vc.convert(vc.encode(source), anna))


def test_a_saved_voice_gives_the_same_bytes(vc, anna, source, tmp_path):
    loaded = ssl_vc.Voice.load(anna.save(tmp_path / "anna.voice"))
    assert torch.equal(vc.convert(source, loaded), vc.convert(source, anna))


def test_is_knn_as_published(vc, anna, source):
    """Mean of the four nearest, and the vocoder: nothing else happens on the way."""
    frames = vc.extractor(torch.cat([source, torch.zeros(-len(source) % 320 + 80)]))  # a frame hears 400 samples
    pool = torch.nn.functional.normalize(anna.frames.float(), dim=1)
    index = (torch.nn.functional.normalize(frames, dim=1) @ pool.T).topk(4).indices
    by_hand = vc.vocoder.synthesize(anna.frames.float()[index].mean(1))[: len(source)]
    assert torch.allclose(vc.convert(source, anna, loudness=None), by_hand, atol=1e-5)


def test_blend_of_0_is_the_source_bit_for_bit(vc, anna, source):
    copy = vc.vocoder.synthesize(vc.extractor(source, every_hop=True))[: len(source)]
    done = vc.convert_detailed(source, anna, blend=0, loudness=None)
    assert torch.equal(done.wav, copy)
    assert done.matcher == "none"
    assert done.distance is None


def test_blend_goes_from_the_source_through_the_target(vc, anna, source):
    frames = vc.extractor(source, every_hop=True)
    (matched,) = KNN()([frames], vc.pool(anna))
    for share in (0.3, 1.5):
        wanted = vc.vocoder.synthesize(frames + share * (matched.frames - frames))[: len(source)]
        assert torch.allclose(vc.convert(source, anna, blend=share, loudness=None), wanted, atol=1e-4)


@pytest.mark.parametrize("matcher", ["auto", "knn", "smooth", "linear", "orthogonal", "low-rank", "transport"])
def test_every_matcher_converts(vc, anna, source, matcher):
    done = vc.convert_detailed(source, anna, matcher=matcher)
    assert done.wav.shape == source.shape
    assert bool(done.wav.isfinite().all())
    assert 0 < done.jump < 1
    assert done.reason.endswith(".")


def test_matcher_objects_and_k(vc, anna, source):
    few, many = (vc.convert(source, anna, matcher="knn", k=k) for k in (1, 20))
    assert not torch.equal(few, many)
    assert torch.equal(vc.convert(source, anna, matcher=KNN(20)), many)


def test_facts_of_a_conversion(vc, anna, source):
    done = vc.convert_detailed(source, anna)
    frames = vc.extractor(source, every_hop=True)
    (match,) = KNN()([frames], vc.pool(anna))
    assert done.distance == pytest.approx(float(match.distance.mean()), abs=1e-6)
    assert done.source_jump == pytest.approx(jump(frames), rel=1e-6)
    assert done.jump == pytest.approx(jump(match.frames), rel=1e-6)
    assert 0 <= done.coverage <= 1
    assert any("anna" in warning for warning in done.warnings)  # 8 s are little


def test_former_names_still_work(vc, anna, source):
    former, result = vc.converted(source, anna, k=2), vc.convert_detailed(source, anna, k=2)
    assert torch.equal(former.wav, result.wav)
    assert former.why == result.reason


def test_a_voice_is_nearer_to_itself(vc, anna, source, speech):
    itself = vc.convert_detailed((speech(8, text=1, **WOMAN), RATE), anna)
    other = vc.convert_detailed(source, anna)
    assert itself.distance < 0.01 < other.distance
    assert itself.coverage < other.coverage


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 2.0])
def test_speed_changes_the_length_alone(vc, anna, source, speed):
    wav = vc.convert(source, anna, speed=speed)
    assert len(wav) == round(len(source) / speed)


def test_loudness(vc, anna, source):
    wav = vc.convert(source, anna)
    assert loudness(wav) == pytest.approx(-16, abs=0.05) or float(wav.abs().max()) == pytest.approx(1, abs=1e-3)
    assert loudness(vc.convert(source, anna, loudness=-30.0)) == pytest.approx(-30, abs=0.05)
    assert not torch.equal(vc.convert(source, anna, loudness=None), wav)


def test_every_frame_may_have_a_blend_of_its_own(vc, anna, source):
    frames = vc.encode(source).frames
    for speed in (1.0, 1.25):
        even = vc.convert(source, anna, blend=torch.full((frames,), 0.5), speed=speed)
        torch.testing.assert_close(even, vc.convert(source, anna, blend=0.5, speed=speed), atol=1e-4, rtol=1e-3)
    none = vc.convert(source, anna, blend=torch.zeros(frames))
    torch.testing.assert_close(none, vc.convert(source, anna, blend=0), atol=1e-4, rtol=1e-3)
    for wrong in (torch.ones(frames + 1), torch.full((frames,), -0.1), torch.full((frames,), torch.nan)):
        with pytest.raises(ValueError, match=rf"give {frames} numbers from 0 to 4, one per frame"):
            vc.convert(source, anna, blend=wrong)


def test_long_sources_are_heard_in_pieces(vc, anna, source, monkeypatch):
    whole = vc.convert(source, anna, blend=0.5)
    monkeypatch.setattr("ssl_vc.features.waveform.LONG", 1)
    known = vc.encode(source)
    assert not isinstance(known.wav, torch.Tensor)
    torch.testing.assert_close(vc.convert(known, anna, blend=0.5), whole, atol=1e-5, rtol=1e-4)


def test_one_source_is_heard_once_for_many_voices(vc, anna, source, monkeypatch):
    heard = []
    stream = Extractor.stream
    monkeypatch.setattr(Extractor, "stream", lambda *args, **more: heard.append(1) or stream(*args, **more))
    known = vc.encode(source)
    for _ in range(3):
        vc.convert(known, anna, blend=0.5)
    assert len(heard) == 1


@needs_world
def test_world_sounds_like_the_target(world, world_anna, heard, source, speech, monkeypatch, median_pitch):
    """No trained vocoder, and not even a trained encoder: yet F0 and spectrum move to the target's."""
    monkeypatch.setattr(world, "layout", world.layout._replace(envelope_gain=1.0))  # this distance likes what is flat
    own = speech(3, text=2, **WOMAN)  # the target's own reading, with the same timing
    wav = world.convert(heard, world_anna)
    assert median_pitch(source) == pytest.approx(120, rel=0.1)
    assert median_pitch(wav) == pytest.approx(median_pitch(own), rel=0.05)
    before, after = (
        mel_cepstral_distortion(*(ssl_vc.loudness.normalize_loudness(each) for each in (own, other)))
        for other in (source, wav)
    )
    assert after < 0.9 * before


@needs_world
def test_world_at_another_rate(extractor, source, median_pitch):
    vc = VoiceConverter(extractor, "knn", World(WorldConfig(24_000, 480)))
    wav = vc.convert(source[:16_000], vc.enroll((source, RATE)))
    assert len(wav) == 24_000
    assert median_pitch(ssl_vc.read((wav, 24_000))) == pytest.approx(120, rel=0.1)


@needs_world
def test_world_takes_the_sources_melody(world, world_anna, heard, source):
    heard, given = (track_pitch(wav) for wav in (source, world.convert(heard, world_anna)))
    both = (heard > 0) & (given > 0)
    moved = 12 * (given[both] / heard[both]).log2()
    assert both.float().mean() > 0.4
    assert float((moved - moved.median()).abs().median()) < 0.3  # semitones: the same melody, elsewhere


@needs_world
def test_world_takes_the_sources_loudness(world, world_anna, source):
    swell = source * 10 ** torch.linspace(-1.5, 0, len(source))  # 30 dB
    given, even = (world.convert(wav, world_anna) for wav in (swell, source))
    seconds = len(source) // RATE
    level, before = (
        torch.stack([10 * part.square().mean().log10() for part in wav[: seconds * RATE].chunk(seconds)])
        for wav in (given, even)
    )
    rise = (level - before)[-1] - (level - before)[0]
    assert float(rise) == pytest.approx(30 * (1 - 1 / seconds), abs=3)


@needs_world
def test_world_speaks_sharper_than_a_mean(world, world_anna, heard):
    numbers = torch.arange(world.vocoder.dim)
    columns = sorted({*numbers[world.vocoder.envelope].tolist()} - {*numbers[world.vocoder.loudness].tolist()})
    theirs = world.pool(world_anna).synthesis[:, columns]
    (match,) = KNN(8)(heard.query_frames(), world.pool(world_anna))
    own = next(iter(heard.vocoder_frames()))
    sung = ProsodyTransfer(world.layout, world_anna.pitch, world.pool(world_anna).synthesis, 0).apply(match.frames, own)
    middle = theirs.float().mean(0)
    torch.testing.assert_close(sung[:, columns] - middle, 1.2 * (match.frames[:, columns] - middle))


@needs_world
def test_pitch_in_semitones_is_from_the_sources_own(world, world_anna, heard, source, median_pitch):
    own, higher = (median_pitch(world.convert(heard, world_anna, pitch=pitch)) for pitch in (0, 5))
    assert own == pytest.approx(median_pitch(source), rel=0.03)
    assert higher == pytest.approx(own * 2 ** (5 / 12), rel=0.03)
    kept, matched = (world.convert(heard, world_anna, pitch=pitch) for pitch in ("keep", "match"))
    assert torch.equal(kept, matched)


@needs_world
def test_world_blend(world, world_anna, heard, source, median_pitch):
    copy = world.vocoder.synthesize(next(iter(heard.vocoder_frames())))[: len(source)]
    assert torch.equal(world.convert(heard, world_anna, blend=0, loudness=None), copy)
    half = median_pitch(world.convert(heard, world_anna, blend=0.5))
    ends = [median_pitch(world.convert(heard, world_anna, blend=share)) for share in (0, 1)]
    assert half == pytest.approx((ends[0] * ends[1]) ** 0.5, rel=0.04)  # midway as ears count


@needs_world
@pytest.mark.parametrize("samples", [1, 399, 16_001])
def test_world_is_exactly_as_long(world, world_anna, source, samples):
    assert len(world.convert(source[4000 : 4000 + samples], world_anna)) == samples
    assert len(world.convert(source[4000 : 4000 + samples], world_anna, speed=0.7)) == round(samples / 0.7)


def test_a_spectrogram_voice(extractor, speech, source, median_pitch):
    """Matched in SSL frames, spoken from mel frames: Griffin-Lim needs no training either."""
    vc = VoiceConverter(extractor, "knn", GriffinLim(Mel()))
    voice = vc.enroll((speech(8, text=1, **WOMAN), RATE))
    assert voice.synthesis.shape == (len(voice.frames), 80)
    wav = vc.convert(source, voice)
    assert len(wav) == len(source)
    assert median_pitch(wav) > 1.4 * median_pitch(source)


def test_matched_in_one_layer_and_spoken_from_another(speech, source):
    encoder = load_encoder("untrained")
    matched, spoken = (Extractor(encoder, layer) for layer in (2, 4))
    vc = VoiceConverter(matched, "knn", vocos(spoken.spec.feature_spec), synthesis=spoken)
    voice = vc.enroll((speech(4, text=1), RATE))
    assert voice.feature_spec["layer"] == 4
    assert voice.spec.layer == 2
    copy = vc.vocoder.synthesize(spoken(source, every_hop=True))[: len(source)]
    assert torch.equal(vc.convert(source, voice, blend=0, loudness=None), copy)


def test_from_pretrained_wires_what_fits(tmp_path, source):
    encoder = load_encoder("untrained")
    encoder.save_pretrained(tmp_path / "mine" / "encoder")
    facts = {"kind": "ssl", "layer": 3, "normalized": True}
    vocos(facts).save_pretrained(tmp_path / "mine" / "vocoder")
    vc = VoiceConverter.from_pretrained(str(tmp_path / "mine"))
    assert (vc.extractor.spec.layer, vc.extractor.spec.normalized, vc.same_frames) == (3, True, True)
    other = VoiceConverter.from_pretrained(str(tmp_path / "mine"), layer=1)
    assert (other.extractor.spec.layer, other.analysis.feature_spec["layer"], other.same_frames) == (1, 3, False)
    lim = VoiceConverter.from_pretrained("untrained", vocoder="griffin-lim", layer=1)
    assert (lim.analysis.feature_spec["kind"], lim.extractor.spec.layer) == ("mel", 1)
    assert len(lim.convert(source, lim.enroll((source, RATE)))) == len(source)
    tiny = VoiceConverter.from_pretrained(vocoder="griffin-lim")
    assert tiny.extractor.spec == Extractor.from_pretrained("tiny").spec


def test_what_does_not_fit_is_refused(vc, anna, extractor, source):
    with pytest.raises(ValueError, match="the voice 'anna' does not fit: it has layer 3 instead of 2"):
        vc.convert(source, replace(anna, spec=replace(anna.spec, layer=3)))
    lim = VoiceConverter(extractor, "knn", GriffinLim(Mel()))
    with pytest.raises(
        ValueError, match="the voice 'anna' was built for a vocoder that reads ssl frames, and this one"
    ):
        lim.convert(source, anna)
    with pytest.raises(ValueError, match="layer is 2 where 4 is wanted"):
        VoiceConverter(extractor, "knn", vocos({**extractor.spec.feature_spec, "layer": 4}))
    slow = MelConfig(hop_length=160)
    with pytest.raises(ValueError, match="a frame of this mel analysis is 10 ms long"):
        VoiceConverter(extractor, "knn", vocos(Mel(slow).reads, dim=80))
    with pytest.raises(ValueError, match="this vocoder generates 10 ms per frame, and a query frame lasts 20 ms"):
        VoiceConverter(extractor, "knn", GriffinLim(Mel(slow)))
    with pytest.raises(ValueError, match="this source was encoded by another converter"):
        lim.convert(vc.encode(source), lim.enroll((source, RATE)))
    with pytest.raises(ValueError, match=r"the voice is a str; give the result of `enroll` or `Voice\.load`"):
        vc.convert(source, "anna.voice")
    thin = lim.enroll((source, RATE))
    thin = replace(thin, synthesis=thin.synthesis[:, :3])
    with pytest.raises(ValueError, match="has frames of 3 dimensions, and the vocoder reads 80; build the voice again"):
        lim.convert(source, thin)
    with pytest.raises(ValueError, match="this vocoder reads units features"):
        VoiceConverter(extractor, "knn", vocos({"kind": "units"}))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pitch": 3}, "pitch is 3, but this vocoder takes no pitch"),
        ({"pitch": "high"}, "pitch is 'high'; possible are match, or a number of semitones"),
        ({"pitch": float("nan")}, "pitch is nan; possible are"),
        ({"blend": -0.1}, "blend is -0.1; possible are numbers from 0 to 4"),
        ({"blend": "much"}, "blend is 'much'; possible are"),
        ({"speed": 0}, "speed is 0; possible are numbers from 0.25 to 4"),
        ({"k": 0}, "k is 0; give a whole number from 1 to 1000"),
        ({"k": 100_000}, "k is 100000; give a whole number from 1 to 1000"),
        ({"k": 2.5}, "k is 2.5; give a whole number"),
        ({"matcher": "nearest"}, "there is no matcher 'nearest'; possible are auto, knn"),
        ({"loudness": float("nan")}, "loudness is nan; possible are numbers from -70 to 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(vc, anna, source, options, problem):
    with pytest.raises(ValueError, match=problem):
        vc.convert(source, anna, **options)


def test_match_and_its_former_name_are_one_without_pitch_too(vc, anna, source):
    assert torch.equal(vc.convert(source, anna, pitch="match"), vc.convert(source, anna, pitch="keep"))


def test_progress_rises_to_one(vc, anna, source, monkeypatch):
    monkeypatch.setattr("ssl_vc.features.waveform.LONG", 1)  # in chunks
    shares = []
    vc.convert(torch.cat([source] * 8), anna, progress=shares.append)
    assert len(shares) > 3 and shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1


def test_a_missed_loudness_is_a_warning(vc, anna, source, monkeypatch):
    assert loudness(vc.convert(source, anna, loudness=-20)) == pytest.approx(-20, abs=0.2)
    monkeypatch.setattr("ssl_vc.limiter.MOST", -40.0)
    assert any("LUFS instead of -20" in each for each in vc.convert_detailed(source, anna, loudness=-20).warnings)


def test_silence_and_crumbs_are_refused(vc, anna):
    with pytest.raises(ssl_vc.AudioError, match="silent throughout"):
        vc.convert(torch.zeros(16_000), anna)
    with pytest.raises(ssl_vc.AudioError, match="recording 1 has 300 samples at 16 kHz"):
        vc.enroll((np.ones(300, np.float32) * 0.1, RATE))


def test_enrolment_says_what_it_took(vc, speech, tmp_path):
    for text in (1, 2):
        soundfile.write(tmp_path / f"{text}.wav", speech(2, text=text, **WOMAN).numpy(), RATE)
    (tmp_path / "notes.txt").write_text("no sound")
    voice = vc.enroll(tmp_path, "anna", note="consent given")
    again = vc.enroll([tmp_path / "1.wav", tmp_path / "2.wav"], "anna")
    assert torch.equal(voice.frames, again.frames)
    assert [origin.name for origin in voice.origins] == [str(tmp_path / "1.wav"), str(tmp_path / "2.wav")]
    assert len({origin.sha256 for origin in voice.origins}) == 2
    assert sum(origin.frames for origin in voice.origins) == len(voice.frames)
    assert voice.pitch.median == pytest.approx(210, rel=0.1)
    assert voice.note == "consent given"
    for level in (50.0, float("nan")):
        with pytest.raises(ValueError, match=r"loudness is \w.*; possible are numbers from -70 to 0"):
            vc.enroll(tmp_path, loudness=level)
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "._1.wav").write_bytes(b"what some systems put beside a file")
    assert torch.equal(vc.enroll(tmp_path).frames, voice.frames)
    with pytest.raises(ValueError, match="there are no recordings"):
        vc.enroll([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="contains no audio files"):
        vc.enroll(tmp_path / "empty")


def test_enrolment_trims_and_levels(vc, speech):
    quiet = torch.cat([torch.zeros(RATE), 0.05 * speech(2, text=1), torch.zeros(RATE)])
    trimmed, whole = (vc.enroll((quiet, RATE), trim=trim) for trim in (True, False))
    assert whole.seconds == pytest.approx(4, abs=0.05)
    assert trimmed.seconds < 2.2
    levelled, loud = vc.enroll((quiet, RATE), loudness=-20.0), vc.enroll((10 * quiet, RATE), loudness=-20.0)
    assert torch.allclose(levelled.frames.float(), loud.frames.float(), atol=0.05)
    assert not torch.allclose(levelled.frames.float(), trimmed.frames.float(), atol=0.05)
