"""Measures say what is known of a sound: nothing differs, its pitch is shifted, its spectrum is bent."""

import math
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from ssl_vc.evaluate import cost, quality, spectral
from ssl_vc.evaluate.cost import measure_cost
from ssl_vc.evaluate.pitch import pitch_error
from ssl_vc.evaluate.quality import pesq, stoi
from ssl_vc.evaluate.spectral import mel_cepstral_distortion, mel_distance

needs_pesq = pytest.mark.skipif(find_spec("pesq") is None, reason="pesq is not installed (extra eval)")
needs_pystoi = pytest.mark.skipif(find_spec("pystoi") is None, reason="pystoi is not installed (extra eval)")
RATE = 16_000


def vowels(seconds=2.0, hertz=120.0):
    """Harmonics of a gliding pitch below formants that move, with a pause, and a little noise."""
    time = torch.arange(round(seconds * RATE)) / RATE
    pitch = hertz * (1 + 0.1 * torch.sin(2 * torch.pi * 1.5 * time))
    phase = 2 * torch.pi * pitch.double().cumsum(0) / RATE
    wav = torch.zeros(len(time))
    for k in range(1, int(7000 / hertz)):
        formants = ((600 + 200 * torch.sin(4 * time), 90), (1400 - 300 * torch.sin(5 * time), 120), (2600, 200))
        gain = sum(1 / (1 + ((k * pitch - at) / width) ** 2) for at, width in formants) + 0.002
        wav += (gain * torch.cos(k * phase)).float()
    wav *= torch.sin(torch.pi * (time * 2 / seconds % 1)).clamp(0.05, 1)  # two syllables
    wav[len(wav) // 2 : len(wav) // 2 + RATE // 5] = 0
    return 0.3 * wav / wav.abs().max() + 0.0005 * torch.randn(len(time), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def voice():
    return vowels()


def bent(wav, gain):
    """The wav with its spectrum times gain(frequency)."""
    spectrum = torch.fft.rfft(wav)
    return torch.fft.irfft(spectrum * gain(torch.linspace(0, RATE / 2, len(spectrum))), n=len(wav))


def test_a_sound_does_not_differ_from_itself(voice):
    assert mel_distance(voice, voice) == 0
    assert mel_cepstral_distortion(voice, voice) == 0
    assert pitch_error(voice, voice) == (0, 0, 0, pytest.approx(1))


@needs_pesq
@needs_pystoi
def test_quality_is_best_of_the_sound_itself_and_falls_with_noise(voice):
    assert pesq(voice, voice) > 4.6
    assert stoi(voice, voice) > 0.999
    torch.manual_seed(0)
    noisy, noisier = (voice + level * torch.randn(len(voice)) for level in (0.003, 0.1))
    assert pesq(voice, voice) > pesq(voice, noisy) > pesq(voice, noisier)
    assert stoi(voice, voice) > stoi(voice, noisy) > stoi(voice, noisier)


def test_level_counts_in_mel_distance_alone(voice):
    loud = voice + 0.01 * torch.randn(len(voice), generator=torch.Generator().manual_seed(1))  # above the floor
    assert mel_distance(loud, 0.5 * loud) == pytest.approx(math.log(2), rel=0.01)
    assert mel_cepstral_distortion(loud, 0.5 * loud) < 0.05


def test_mcd_grows_with_a_tilt(voice):
    tilts = [mel_cepstral_distortion(voice, bent(voice, lambda f, a=a: (1 + f / 1000) ** -a)) for a in (0.25, 0.5, 1)]
    assert tilts[0] > 0.5
    assert tilts == sorted(tilts)


def test_mcd_is_the_root_mean_square_difference_in_decibels():
    noise = torch.randn(3 * RATE, generator=torch.Generator().manual_seed(0)) * 0.1

    def one_wave(hertz):  # exp(a cos(pi * place on the mel scale)): only the first coefficient differs
        mel = torch.where(hertz < 1000, hertz * 3 / 200, 15 + (hertz.clamp(min=1) / 1000).log() * 27 / math.log(6.4))
        return torch.exp(0.6 * torch.cos(torch.pi * mel / mel[-1]))

    expected = 0.6 * 20 / math.log(10) / math.sqrt(2)
    assert mel_cepstral_distortion(noise, bent(noise, one_wave)) == pytest.approx(expected, rel=0.03)


def test_quiet_frames_do_not_count_in_mcd(voice):
    changed = voice.clone()
    pause = slice(len(voice) // 2 + 400, len(voice) // 2 + RATE // 5 - 400)
    changed[pause] = torch.randn(RATE // 5 - 800) * 0.001
    assert mel_cepstral_distortion(voice, changed) < 0.01
    assert mel_distance(voice, changed) > 0.01


def test_long_sounds_are_measured_in_blocks(voice, monkeypatch):
    copy = bent(voice, lambda f: 1 + f / 4000)
    whole = mel_distance(voice, copy), mel_cepstral_distortion(voice, copy)
    monkeypatch.setattr(spectral, "BLOCK", RATE // 2)
    assert (mel_distance(voice, copy), mel_cepstral_distortion(voice, copy)) == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize("semitones", [1, 2])
@pytest.mark.parametrize("hertz", [110.0, 210.0])
def test_a_shift_of_pitch_is_measured(hertz, semitones):
    error = pitch_error(vowels(1.5, hertz), vowels(1.5, hertz * 2 ** (semitones / 12)))
    assert error.cents == pytest.approx(100 * semitones, abs=8)
    assert error.hertz == pytest.approx(hertz * (2 ** (semitones / 12) - 1), rel=0.1)
    assert error.voicing < 8
    assert 0.99 < error.correlation <= 1 + 1e-9


def hum(melody):
    """Harmonics of a melody (samples,) in Hz."""
    phase = 2 * torch.pi * melody.double().cumsum(0) / RATE
    return 0.05 * sum(torch.cos(k * phase) for k in range(1, 12)).float()


def test_melodies_that_move_alike_correlate_whatever_their_register():
    wave = torch.sin(2 * torch.pi * 3 * torch.arange(RATE) / RATE)
    rising, wider, falling = (hum(150 * 2 ** (octaves * wave)) for octaves in (0.1, 0.2, -0.1))
    assert pitch_error(rising, wider).correlation == pytest.approx(1, abs=0.01)
    assert pitch_error(rising, falling).correlation == pytest.approx(-1, abs=0.01)
    beside = hum(150 * 2 ** (0.1 * torch.cos(2 * torch.pi * 3 * torch.arange(RATE) / RATE)))
    assert pitch_error(rising, beside).correlation == pytest.approx(0, abs=0.03)
    assert pitch_error(rising, falling).cents == pytest.approx(2 * 0.1 * 1200 / math.sqrt(2), rel=0.03)


def test_a_monotone_has_no_correlation():
    wave, still = torch.sin(torch.arange(RATE) / 1000), torch.zeros(RATE)
    moving, flat = hum(150 * 2 ** (0.1 * wave)), hum(150 + still)
    for first, second in ((moving, flat), (flat, moving), (flat, flat)):
        assert pitch_error(first, second).correlation is None
        assert pitch_error(first, second).cents is not None


def test_lost_voice_is_measured(voice):
    half = voice.clone()
    half[: len(voice) // 2] = 0
    assert 35 < pitch_error(voice, half).voicing < 55
    hertz, cents, voicing, correlation = pitch_error(voice, torch.randn(len(voice)) * 0.1)
    assert hertz is cents is correlation is None
    assert voicing > 70


@pytest.mark.parametrize("wav", [torch.zeros(RATE), torch.full((40,), 0.1), torch.full((2000,), 0.1)])
def test_what_cannot_be_measured_is_none_or_a_number(wav, voice):
    for first, second in ((wav, wav), (wav, voice), (voice, wav), (voice, wav[:0])):
        values = [mel_distance(first, second), mel_cepstral_distortion(first, second), *pitch_error(first, second)]
        values += [pesq(first, second), stoi(first, second)]
        assert all(value is None or math.isfinite(value) for value in values)
    assert mel_distance(voice, wav[:0]) is None
    assert mel_cepstral_distortion(torch.zeros(RATE), voice) is None
    assert pesq(voice, torch.zeros(RATE)) is stoi(torch.zeros(RATE), voice) is None
    assert pitch_error(voice, wav[:40]) == (None, None, None, None)


def test_without_the_extra_quality_is_none(voice, monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    monkeypatch.setitem(sys.modules, "pystoi", None)
    assert pesq(voice, voice) is stoi(voice, voice) is None


def test_pesq_is_computed_in_segments(monkeypatch):
    segments = []

    class NoSpeechError(Exception):
        pass

    def judge(rate, first, second, mode):
        assert (rate, mode) == (RATE, "wb")
        segments.append(len(first))
        if len(segments) == 2:
            raise NoSpeechError
        return 1.0 + len(segments)

    monkeypatch.setitem(sys.modules, "pesq", SimpleNamespace(pesq=judge, PesqError=NoSpeechError))
    wav = torch.full((40 * RATE + 3,), 0.1)
    assert pesq(wav, wav) == pytest.approx((2 + 4 + 5) / 3)
    assert sum(segments) == len(wav)
    assert max(segments) <= quality.PESQ_SEGMENT
    assert max(segments) - min(segments) < 4


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell memory")
def test_memory_and_time_are_measured():
    with measure_cost() as small:
        torch.ones(1)
    with measure_cost() as large:
        torch.ones(60_000_000)
    if large.peak_bytes is None:
        pytest.skip("this system does not forget its peak")
    assert small.added_bytes < 40e6
    assert 200e6 < large.added_bytes < 300e6
    assert large.peak_bytes > 240e6
    assert large.seconds > small.seconds > 0


def test_memory_is_none_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "PROCESS", tmp_path)
    with pytest.raises(KeyError), measure_cost() as spent:
        raise KeyError
    assert spent.peak_bytes is spent.added_bytes is None
    assert spent.seconds > 0
