"""Output level: the loudness that was asked for, with no true peak above the ceiling."""

import math

import numpy as np
import pytest
import soxr
import torch

from ssl_vc.limiter import CEILING, LOOKAHEAD, frame_peaks, master
from ssl_vc.loudness import loudness

RATE = 16_000


def true_peak(wav, rate=RATE):
    """Measured as meters do, on a signal of sixteen times the rate, with silence around it."""
    padded = np.pad(wav.numpy(), 800)
    return 20 * math.log10(np.abs(soxr.resample(padded, rate, 16 * rate, quality="VHQ")).max())


def spiky(seconds=3, seed=0, rate=RATE):
    """Noise in syllables with pulses, as speech has: its peaks are 25 dB above its loudness."""
    torch.manual_seed(seed)
    samples = seconds * rate
    wav = 0.02 * torch.randn(samples) * (torch.sin(torch.arange(samples) * 20 / rate) + 1.2)
    wav[:: rate // 7] += 0.4
    return wav


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100])
def test_the_loudness_is_reached_below_the_ceiling(rate):
    wav = spiky(rate=rate)
    assert master(wav, -16, rate) is None
    assert loudness(wav, rate) == pytest.approx(-16, abs=0.15)
    assert true_peak(wav, rate) <= CEILING + 0.1


def test_peaks_between_samples_count():
    at = torch.arange(RATE)
    wav = 0.7 * torch.sin(math.pi / 2 * at + math.pi / 4)  # of 4 kHz; its samples are all 3 dB below its peaks
    assert 20 * math.log10(float(frame_peaks(wav, RATE)[2:-2].max())) == pytest.approx(20 * math.log10(0.7), abs=0.1)
    master(wav, 0, RATE)
    assert float(wav.abs().max()) < 10 ** (CEILING / 20) - 0.2
    assert true_peak(wav[160:-160]) <= CEILING + 0.1


def test_without_peaks_it_is_one_gain():
    torch.manual_seed(0)
    quiet = 0.01 * torch.randn(RATE)
    wav = quiet.clone()
    assert master(wav, -30, RATE) is None
    assert loudness(wav) == pytest.approx(-30, abs=0.01)
    ratio = wav / quiet
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


def test_only_the_surroundings_of_a_peak_are_lowered():
    torch.manual_seed(0)
    quiet = 0.05 * torch.randn(2 * RATE)
    quiet[RATE] = 0.99
    wav = quiet.clone()
    master(wav, -20, RATE)
    gain = wav / quiet
    far = (torch.arange(2 * RATE) - RATE).abs() > (2 * LOOKAHEAD + 5) * RATE // 1000
    torch.testing.assert_close(gain[far], gain[:1].expand(int(far.sum())))
    assert gain[RATE] < 0.7 * gain[0]
    assert gain.log().diff().abs().max() < 0.01  # nowhere a step, which would click


def test_a_missed_target_is_said_and_silence_left():
    wav = torch.zeros(2 * RATE)
    wav[::8000] = 0.9
    assert "LUFS instead of -16, as its peaks would have to be lowered by more than 12 dB" in master(wav, -16, RATE)
    silence = torch.zeros(RATE)
    assert master(silence, -16, RATE) is None and not silence.any()


@pytest.mark.parametrize("samples", [1, 15, 16, 17, 700, 65_537, 130_000])
def test_any_length_in_blocks_as_in_one(samples, monkeypatch):
    """The blocks of a minute leave no seam, and a crumb is no error."""
    wav = spiky(9)[:samples]
    whole, parts = wav.clone(), wav.clone()
    master(whole, -16, RATE)
    monkeypatch.setattr("ssl_vc.limiter.BLOCK", 1600)
    monkeypatch.setattr("ssl_vc.limiter.block_length", lambda rate: 1600)
    master(parts, -16, RATE)
    torch.testing.assert_close(whole, parts, atol=2e-3, rtol=2e-3)
