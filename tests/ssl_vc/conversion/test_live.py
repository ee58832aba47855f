"""Live conversion gives what the offline one gives, a stated time later, whatever the chunks."""

import numpy as np
import pytest
import soxr
import torch

from ssl_vc.audio import AudioError
from ssl_vc.conversion import live
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.evaluate.spectral import mel_distance
from ssl_vc.features.extractor import Extractor
from ssl_vc.match.knn import KNN
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
    shape = VocosConfig(dim=256, width=64, ffn_dim=128, depth=4, reads=extractor.spec.feature_spec)
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


def test_one_thread_computes_unless_more_are_asked_for(vc, anna, source, monkeypatch):
    match, used = KNN.__call__, []

    def spy(*arguments):
        used.append(torch.get_num_threads())
        return match(*arguments)

    monkeypatch.setattr(KNN, "__call__", spy)
    before = torch.get_num_threads()
    for threads in (1, 3):
        run_live(vc.stream(anna, threads=threads), source[:8_000], 8_000)
        assert {*used} == {threads} and torch.get_num_threads() == before
        used.clear()


def test_arrays_and_empty_chunks(vc, anna, source):
    stream = vc.stream(anna)
    parts = [stream(source[:9_000].numpy()), stream(np.zeros(0, np.float32)), stream(source[9_000:]), stream.finish()]
    assert torch.equal(torch.cat(parts), run_live(vc.stream(anna), source, len(source)))


@pytest.mark.parametrize(
    ("rate", "block", "lookahead", "latency"),
    [(RATE, 0.1, 0.26, 0.365), (RATE, 0.2, 0.1, 0.305), (RATE, 0.02, 0.02, 0.045)]
    + [(rate, 0.1, 0.26, 0.365) for rate in (8_000, 44_100, 48_000)],
)
def test_keeps_its_latency(vc, anna, source, rate, block, lookahead, latency):
    """What went in so long ago has come out."""
    stream = vc.stream(anna, block=block, lookahead=lookahead, sample_rate=rate)
    assert stream.latency == pytest.approx(latency) if rate == RATE else latency < stream.latency < 0.43
    taken = given = 0
    for chunk in torch.from_numpy(soxr.resample(source[:16_000].numpy(), RATE, rate)).split(rate // 100):
        taken += len(chunk) / rate
        given += len(stream(chunk)) / RATE
        assert given >= taken - stream.latency - 1e-6
        assert given <= taken


def test_is_near_what_convert_gives(vc, anna, source):
    """The more is waited for, the nearer; all of it is waited for: the same."""
    offline = vc.convert(source, anna, loudness=None)
    far, usual, near = (
        mel_distance(offline, run_live(vc.stream(anna, lookahead=seconds), source, 1_600))
        for seconds in (0.02, 0.26, 1.9)
    )
    other = mel_distance(offline, vc.convert(source, anna, loudness=None, blend=0))
    assert near < usual < far
    assert usual < 0.35 * other
    assert near < 0.1 * other


def test_no_seams(vc, anna, source, monkeypatch):
    """Where blocks meet, the sound steps no more than elsewhere, and less than without the cross-fade."""
    monkeypatch.setattr(live, "VOCODER_AHEAD", 1)  # so that blocks differ
    wav = run_live(vc.stream(anna), source, 1_600)
    steps = wav.diff().abs()
    seams = torch.arange(1_600 - 320, len(wav) - 1, 1_600) - 1  # a frame early
    assert float(steps[seams].mean()) < 1.5 * float(steps.mean())
    monkeypatch.setattr(live, "cross_fade", lambda sound, overlap: sound)
    hard = run_live(vc.stream(anna), source, 1_600).diff().abs()
    assert float(steps[seams].mean()) < float(hard[seams].mean())


def test_other_rates_and_vocoders(extractor, anna, source):
    torch.manual_seed(0)
    shape = HiFiGANConfig(dim=256, projection=0, channels=16, reads=extractor.spec.feature_spec).at_rate(24_000)
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


def test_work_per_block_is_bounded(vc, anna, source, monkeypatch):
    """However long the source: the encoder and the vocoder see a bounded context with every block."""
    encoder, vocoder, encoded, vocoded = vc.extractor.encoder, vc.vocoder, [], []
    forward, generate = encoder.forward, vocoder.generate
    monkeypatch.setattr(encoder, "forward", lambda wav, **kw: encoded.append(wav.shape[1]) or forward(wav, **kw))
    monkeypatch.setattr(vocoder, "generate", lambda rows: vocoded.append(rows.shape[1]) or generate(rows))
    long = source.repeat(3)
    run_live(vc.stream(anna), long, 1_600)
    assert len(encoded) == len(long) // 1_600
    assert max(encoded) <= (live.PAST + 5 + 13) * 320 + 400
    assert max(vocoded) <= vocoder.context + 5 + 2 * live.VOCODER_AHEAD


def test_what_cannot_be_live_is_refused(vc, anna, extractor, speech):
    lim = VoiceConverter(extractor, "knn", GriffinLim(Mel()))
    with pytest.raises(ValueError, match="live conversion needs a neural vocoder"):
        lim.stream(lim.enroll((speech(2), RATE)))
    with pytest.raises(ValueError, match=r"block is 0; possible are numbers from 0.02 to 10"):
        vc.stream(anna, block=0)
    with pytest.raises(ValueError, match="sample_rate is 0; possible are numbers from 1000"):
        vc.stream(anna, sample_rate=0)
    with pytest.raises(AudioError, match="a chunk has the dtype int64"):
        vc.stream(anna)(torch.zeros(10, dtype=torch.int64))
    with pytest.raises(AudioError, match=r"a chunk has the shape \(10, 2\)"):
        vc.stream(anna)(torch.zeros(10, 2))
    with pytest.raises(AudioError, match="a chunk has samples that are NaN or infinite"):
        vc.stream(anna)(torch.full((10,), torch.nan))
    stream = vc.stream(anna)
    stream.finish()
    for more in (lambda: stream(torch.zeros(10)), stream.finish):
        with pytest.raises(ValueError, match="this conversion is finished"):
            more()


def test_takes_the_converters_matcher(vc, anna, source):
    many = VoiceConverter(vc.extractor, KNN(20), vc.vocoder)
    assert many.stream(anna)._matcher == KNN(20)
    assert many.stream(anna, k=3)._matcher == KNN(3)
    auto = VoiceConverter(vc.extractor, "auto", vc.vocoder)
    assert auto.stream(anna)._matcher == KNN(4)  # of the mixture that little reference gets
    with pytest.raises(ValueError, match="live conversion matches frame by frame; use the matcher 'knn'"):
        VoiceConverter(vc.extractor, "smooth", vc.vocoder).stream(anna)


def test_integers_are_scaled(vc, anna, source):
    chunk = (source * 32767).round().to(torch.int16)
    live, wanted = (run_live(vc.stream(anna), wav, 8_000) for wav in (chunk, chunk.float() / 32768))
    assert torch.equal(live, wanted)
