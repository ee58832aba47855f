"""What is said at another pace is near, what is said otherwise is far, and silence does not count."""

import math
import tracemalloc

import numpy as np
import pytest
import torch

from ssl_vc.evaluate.spectral import _mean_along_path, aligned_distortion, mel_cepstral_distortion

RATE = 16_000


def saying(seconds, *, sounds=(0, 1, 2, 3, 2, 0), pace=1.0, noise=0.001):
    """Harmonics below two formants that go from sound to sound, with a pace that changes on the way."""
    formants = torch.tensor([[700.0, 1200], [300, 2300], [350, 800], [500, 1800]])[list(sounds)]
    time = torch.linspace(0, 1, round(seconds * RATE)) ** pace * (len(sounds) - 1)
    before = time.long().clamp(max=len(sounds) - 2)
    at = torch.lerp(formants[before], formants[before + 1], (time - before)[:, None])
    phase = 2 * torch.pi * 125 / RATE * torch.arange(len(time))
    wav = torch.zeros(len(time))
    for k in range(1, 60):
        gain = (1 / (1 + ((125 * k - at) / 120) ** 2)).sum(1) + 0.003
        wav += gain * torch.cos(k * phase)
    return 0.3 * wav / wav.abs().max() + noise * torch.randn(len(wav), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def voice():
    return saying(1.5)


def test_a_sound_does_not_differ_from_itself(voice):
    assert aligned_distortion(voice, voice) == 0


def test_another_pace_is_near_and_another_text_is_far(voice):
    slow = saying(2.2, pace=1.4)
    other = saying(1.5, sounds=(1, 3, 0, 2, 1, 3))
    assert aligned_distortion(voice, slow) < 1
    assert aligned_distortion(voice, slow) < aligned_distortion(voice, other) / 3
    assert aligned_distortion(voice, slow) < mel_cepstral_distortion(voice, slow) / 3


def test_it_is_the_same_both_ways(voice):
    other = saying(1.2, sounds=(1, 3, 0, 2))
    assert aligned_distortion(voice, other) == pytest.approx(aligned_distortion(other, voice), rel=1e-6)


def test_a_bent_spectrum_costs_what_it_costs_unaligned(voice):
    spectrum = torch.fft.rfft(voice)
    bent = torch.fft.irfft(spectrum * (1 + torch.linspace(0, 4, len(spectrum))), n=len(voice))
    assert aligned_distortion(voice, bent) == pytest.approx(mel_cepstral_distortion(voice, bent), rel=0.1)


def test_level_and_silence_do_not_count(voice):
    empty = saying(1.0, noise=0.0)  # nothing above 7.5 kHz: the logarithm is cut off there
    for wav in (voice, empty):
        assert aligned_distortion(wav, 0.2 * wav) < 1e-3
    pause = torch.zeros(RATE)
    around = torch.cat([pause, voice, pause])
    assert aligned_distortion(voice, around) == aligned_distortion(around, voice) < 0.2


@pytest.mark.parametrize("wav", [torch.zeros(RATE), torch.zeros(0), torch.full((40,), 0.1)])
def test_what_cannot_be_measured_is_none(wav, voice):
    assert aligned_distortion(voice, wav) is aligned_distortion(wav, voice) is aligned_distortion(wav, wav) is None


def test_a_single_frame_is_compared_with_all(voice):
    assert math.isfinite(aligned_distortion(voice, voice[:80]))


def by_hand(frames, others):
    """The same cell by cell: the sum and the steps of the cheapest path to each."""
    best = {}
    for i in range(len(frames)):
        for j in range(len(others)):
            near = [best[cell] for cell in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if cell in best]
            total, steps = min(near, key=lambda cell: cell[0]) if near else (0.0, 0)
            best[i, j] = total + float(np.linalg.norm(frames[i] - others[j])), steps + 1
    total, steps = best[len(frames) - 1, len(others) - 1]
    return total / steps


@pytest.mark.parametrize(("first", "second"), [(9, 9), (4, 11), (12, 3), (1, 6), (5, 1), (1, 1)])
def test_the_path_is_the_cheapest(first, second):
    generator = np.random.default_rng(first)
    frames, others = (generator.standard_normal((count, 3)).astype(np.float32) for count in (first, second))
    assert _mean_along_path(frames, others) == pytest.approx(by_hand(frames, others), rel=1e-5)


def test_aligning_never_costs_more_than_going_straight():
    generator = np.random.default_rng(0)
    for _ in range(5):
        frames, others = generator.standard_normal((2, 30, 3)).astype(np.float32)
        assert _mean_along_path(frames, others) < np.linalg.norm(frames - others, axis=1).mean()


def test_frames_that_are_repeated_cost_nothing():
    frames = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    held = np.repeat(frames, np.random.default_rng(1).integers(1, 4, 40), axis=0)
    assert _mean_along_path(frames, held) == _mean_along_path(held, frames) == 0


def test_memory_does_not_grow_with_the_product_of_lengths():
    frames = np.random.default_rng(0).standard_normal((1000, 4)).astype(np.float32)
    tracemalloc.start()
    try:
        _mean_along_path(frames, frames[::-1])
        assert tracemalloc.get_traced_memory()[1] < 3e5  # a byte for each cell would be 1e6
    finally:
        tracemalloc.stop()
