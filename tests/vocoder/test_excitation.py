"""Excitation: F0 is as requested, nothing aliases, and chunks equal one pass."""

import math

import pytest
import torch

from vocoder.excitation import NOISE_FRAMES, Excitation
from vocoder.hifigan import HiFiGANConfig
from vocoder.unit_hifigan import UnitHiFiGANConfig
from vocoder.vocos import Vocos, VocosConfig

HOP = 320


def frames(*pitches):
    return torch.tensor(pitches).log()[None, :, None]


def excite(rows, rate=16_000, hop=HOP):
    excitation = Excitation(rate, hop).eval()
    return excitation(excitation.add_phase(rows, None)[0])


def test_one_pulse_per_period():
    pulses, _ = excite(frames(*[125.0] * 50))  # 128 samples
    peaks = (pulses[0] > 0.99).nonzero()[:, 0]
    assert len(peaks) in (124, 125, 126)
    assert bool((peaks.diff() == 128).all())


def test_phase_accumulates_over_a_glide():
    """From 100 to 200 Hz in a second there are 150 cycles, and F0 is linear."""
    line = torch.linspace(100, 200, 51)
    pulses, _ = excite(frames(*line.tolist()))
    middle = pulses[0, HOP // 2 : HOP // 2 + 50 * HOP]
    peaks = ((middle[1:-1] > middle[:-2]) & (middle[1:-1] > middle[2:]) & (middle[1:-1] > 0.5)).nonzero()[:, 0] + 1
    assert abs(len(peaks) - 150) <= 1
    seconds = (peaks[1:] + peaks[:-1]) / 2 / 16_000
    assert (16_000 / peaks.diff() - (100 + 100 * seconds)).abs().max() < 2.5  # a sample more or less is 1.25 Hz of 200


def test_no_harmonic_aliases():
    """At 1100 Hz the last harmonic below 8 kHz is the seventh; there is nothing between the multiples."""
    pulses, _ = excite(frames(*[1100.0] * 60))
    spectrum = torch.fft.rfft(pulses[0, :16_000] * torch.hann_window(16_000)).abs()
    around = torch.zeros(8001, dtype=torch.bool)
    for multiple in range(0, 8000, 1100):
        around[max(multiple - 3, 0) : multiple + 4] = True
    assert spectrum[~around].max() < 0.05 * spectrum[1100]


def test_noise_is_white_and_repeats_after_ten_seconds():
    _, noise = excite(frames(*[100.0] * (NOISE_FRAMES + 3)))
    assert noise.std() == pytest.approx(0.1, rel=0.01)
    power = torch.stft(noise[0], 256, window=torch.hann_window(256), return_complex=True).abs().square().mean(1)
    assert power[2:-2].max() / power[2:-2].min() < 1.5
    assert torch.equal(noise[0, : 3 * HOP], noise[0, NOISE_FRAMES * HOP :])
    assert not torch.equal(noise[0, :HOP], noise[0, HOP : 2 * HOP])


@pytest.mark.parametrize("cut", [1, 7, 49])
def test_chunks_equal_one_pass(cut):
    rows = (5 + 0.3 * torch.randn(2, 50, 1)).clamp(4, 6)
    excitation = Excitation(16_000, HOP).eval()
    whole, _ = excitation.add_phase(rows, None)
    head, state = excitation.add_phase(rows[:, :cut], None)
    tail, _ = excitation.add_phase(rows[:, cut:], state)
    chunks = torch.cat([head, tail], 1)
    assert torch.equal(chunks[..., [0, 2]], whole[..., [0, 2]])
    distance = (chunks[..., 1] - whole[..., 1]).abs()
    assert torch.minimum(distance, 1 - distance).max() < 1e-6


def test_phase_is_exact_over_an_hour():
    excitation = Excitation(16_000, HOP).eval()
    rows, state = frames(*[123.4] * 1000), None
    for _ in range(180):  # an hour
        phased, state = excitation.add_phase(rows, state)
    expected = (179_999 * HOP / 16_000 * float(rows[0, 0, 0].exp().double())) % 1
    assert math.isclose(float(phased[0, -1, 1]), expected, abs_tol=1e-3)


def test_in_training_every_row_starts_at_random():
    excitation = Excitation(16_000, HOP).train()
    phased, _ = excitation.add_phase(frames(*[100.0] * 4).expand(8, -1, -1), None)
    assert len(phased[:, 0, 1].unique()) == 8
    assert len(phased[:, 0, 2].unique()) > 4


def test_a_harmonic_vocos_follows_f0():
    """Untrained, its filters are nearly flat, so the output has the F0 of the frames."""
    from vocoder.pitch import track_pitch

    torch.manual_seed(0)
    model = Vocos(VocosConfig(dim=5, width=16, depth=1, n_fft=512, spectra=2, harmonic=True)).eval()
    frames = torch.zeros(1, 100, 5)
    frames[..., 0] = (150 + 30 * torch.sin(torch.arange(100) / 10)).log()
    with torch.no_grad():
        tracked = track_pitch(model(frames)[0])
    off = (tracked / frames[0, :, 0].exp()).log2().abs()[3:-3]
    assert off.median() < 0.01


def test_invalid_shapes_are_refused():
    with pytest.raises(ValueError, match="spectra is 3; it must divide the hop, 320"):
        VocosConfig(spectra=3)
    with pytest.raises(ValueError, match="n_fft is 256; it must be even and at least twice the hop, 160"):
        VocosConfig(n_fft=256, spectra=2)
    with pytest.raises(ValueError, match="harmonic"):
        UnitHiFiGANConfig(harmonic=True)
    assert HiFiGANConfig(harmonic=True).hop_length == HOP
