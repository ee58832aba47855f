"""Live conversion gives what the offline one gives, a stated time later, whatever the chunks."""

import time

import numpy as np
import pytest
import soxr
import torch

from ssl_vc import live
from ssl_vc.audio import AudioError
from ssl_vc.convert import VoiceConverter
from ssl_vc.evaluate.spectral import mel_distance
from ssl_vc.extract import Extractor
from vocoder.griffin_lim import GriffinLim
from vocoder.hifigan import HiFiGAN, HiFiGANConfig
from vocoder.mel import Mel
from vocoder.vocos import Vocos, VocosConfig

RATE = 16_000


@pytest.fixture(scope="module")
def extractor():
    return Extractor.from_pretrained("untrained", 2)


@pytest.fixture(scope="module")
def vc(extractor):
    torch.manual_seed(0)
    shape = VocosConfig(dim=256, width=64, ffn_dim=128, depth=4, reads=extractor.spec.facts)
    return VoiceConverter(extractor, "knn", Vocos(shape).eval())


@pytest.fixture(scope="module")
def anna(vc, speech):
    return vc.enroll((speech(8, text=1, pitch=210, size=1.2), RATE), "anna")


@pytest.fixture(scope="module")
def source(speech):
    return speech(2, text=2)


def run_live(stream, wav, sizes):
    parts = [stream(chunk) for chunk in wav.split(sizes)]
    return torch.cat([*parts, stream.finish()])


@pytest.mark.parametrize("samples", [0, 1, 400, 5_000, 16_001])
def test_as_long_as_the_source(vc, anna, source, samples):
    assert len(run_live(vc.stream(anna), source[:samples], 1_000)) == samples


def test_chunks_do_not_matter(vc, anna, source):
    whole = run_live(vc.stream(anna), source, len(source))
    for size in (160, 11_111):
        assert torch.equal(run_live(vc.stream(anna), source, size), whole)


def test_arrays_and_empty_chunks(vc, anna, source):
    stream = vc.stream(anna)
    parts = [stream(source[:9_000].numpy()), stream(np.zeros(0, np.float32)), stream(source[9_000:]), stream.finish()]
    assert torch.equal(torch.cat(parts), run_live(vc.stream(anna), source, len(source)))


@pytest.mark.parametrize(
    ("block", "lookahead", "latency"), [(0.1, 0.28, 0.385), (0.2, 0.1, 0.305), (0.02, 0.02, 0.045)]
)
def test_keeps_its_latency(vc, anna, source, block, lookahead, latency):
    """What went in so long ago has come out."""
    stream = vc.stream(anna, block=block, lookahead=lookahead)
    assert stream.latency == pytest.approx(latency)
    taken = given = 0
    for chunk in source[:16_000].split(160):
        taken += len(chunk)
        given += len(stream(chunk))
        assert given >= taken - latency * RATE
        assert given <= taken


def test_is_near_what_convert_gives(vc, anna, source):
    """The more is waited for, the nearer; all of it is waited for: the same."""
    offline = vc.convert(source, anna, loudness=None)
    far, usual, near = (
        mel_distance(offline, run_live(vc.stream(anna, lookahead=seconds), source, 1_600))
        for seconds in (0.02, 0.28, 1.9)
    )
    other = mel_distance(offline, vc.convert(source, anna, loudness=None, blend=0))
    assert near < usual < far
    assert usual < 0.35 * other
    assert near < 0.1 * other


def test_no_seams(vc, anna, source):
    """Where blocks meet, the sound steps no more than elsewhere."""
    wav = run_live(vc.stream(anna), source, 1_600)
    steps = wav.diff().abs()
    seams = torch.arange(1_600, len(wav) - 1, 1_600) - 1
    assert float(steps[seams].mean()) < 1.5 * float(steps.mean())


def test_other_rates_and_vocoders(extractor, anna, source):
    torch.manual_seed(0)
    shape = HiFiGANConfig(dim=256, projection=0, channels=16, reads=extractor.spec.facts).at_rate(24_000)
    vc = VoiceConverter(extractor, "knn", HiFiGAN(shape).eval())
    at_48k = torch.from_numpy(soxr.resample(source.numpy(), RATE, 48_000))
    wav = run_live(vc.stream(anna, sample_rate=48_000), at_48k, 4_800)
    assert abs(len(wav) - len(source) * 3 // 2) <= 2
    assert mel_distance(*(each[: len(source)] for each in (wav, vc.convert(source, anna, loudness=None)))) < 0.5


def test_blend(vc, anna, source):
    half, whole = (run_live(vc.stream(anna, blend=share), source, 1_600) for share in (0.5, 1.0))
    assert not torch.equal(half, whole)
    offline = vc.convert(source, anna, blend=0.5, loudness=None)
    assert mel_distance(offline, half) < mel_distance(offline, whole)


def test_memory_does_not_grow(vc, anna, source, monkeypatch):
    monkeypatch.setattr(live, "LEVEL", 2)
    stream = vc.stream(anna, block=0.5)
    for _ in range(5):
        stream(source)
    assert len(stream._wav) < 4 * RATE
    assert len(stream._frames) < 100


def test_faster_than_it_is_spoken(vc, anna, source):
    stream, start = vc.stream(anna), time.perf_counter()
    run_live(stream, source, 1_600)
    assert time.perf_counter() - start < len(source) / RATE


def test_what_cannot_be_live_is_refused(vc, anna, extractor, speech):
    lim = VoiceConverter(extractor, "knn", GriffinLim(Mel()))
    with pytest.raises(ValueError, match="live conversion needs a vocoder with weights"):
        lim.stream(lim.enroll((speech(2), RATE)))
    with pytest.raises(ValueError, match=r"block is 0 s and lookahead 0.28 s; give at least 0.02 s each"):
        vc.stream(anna, block=0)
    with pytest.raises(AudioError, match=r"a chunk has the shape \(10, 2\)"):
        vc.stream(anna)(torch.zeros(10, 2))
    with pytest.raises(AudioError, match="or is not finite"):
        vc.stream(anna)(torch.full((10,), torch.nan))
    stream = vc.stream(anna)
    stream.finish()
    with pytest.raises(ValueError, match="this conversion is finished"):
        stream(torch.zeros(10))
