"""The noise gate: pauses are lowered, speech keeps its level to the sample, and digital silence stays silent."""

import pytest
import torch

import ssl_vc
from ssl_vc.conversion.gate import FRAME, apply_gain, find_pauses
from ssl_vc.features.waveform import WaveformFile

PAUSE = slice(16_000, 32_000)


@pytest.fixture(scope="module")
def clean(speech):
    """Speech of a second, a pause of a second, and speech again."""
    return torch.cat([speech(1.0), torch.zeros(16_000), speech(1.0, text=1)])


def decibels(wav):
    return 10 * torch.log10(wav.square().mean() + 1e-12)


@pytest.mark.parametrize("snr", [20, 35, 50])
def test_pauses_are_lowered_and_speech_is_not(clean, snr):
    torch.manual_seed(0)
    loud = clean[:16_000].square().mean().sqrt()
    noisy = clean + loud * 10 ** (-snr / 20) * torch.randn(len(clean))
    gated = noisy.clone()
    apply_gain(gated, find_pauses(noisy).gain)
    assert torch.equal(gated[:15_000], noisy[:15_000]) and torch.equal(gated[33_000:], noisy[33_000:])
    inner = slice(PAUSE.start + 2400, PAUSE.stop - 2400)
    assert decibels(gated[inner]) - decibels(noisy[inner]) == pytest.approx(-15, abs=0.1)
    assert find_pauses(noisy).noise == pytest.approx(snr, abs=2)


def test_digital_silence_is_silent(clean):
    other = torch.full((len(clean) * 3 // 2,), 0.1)  # what was made of it, at 24 kHz
    apply_gain(other, find_pauses(clean).gain)
    assert bool((other[27_600:44_400] == 0).all()) and bool((other[:23_000] == 0.1).all())
    assert other.diff().abs().max() < 1e-3  # without a click


def test_short_gaps_and_steady_sounds_are_no_pauses(clean):
    gaps = clean[:16_000].clone()
    gaps[4000:6400] = 0.0  # 150 ms
    assert bool((find_pauses(gaps).gain == 1).all())
    assert bool((find_pauses(0.1 * torch.randn(16_000)).gain == 1).all())
    assert bool((find_pauses(torch.ones(100)).gain == 1).all())


def test_a_long_source_in_a_file_is_the_same(clean):
    long = torch.cat([clean] * 40)
    whole = find_pauses(long).gain
    assert torch.equal(find_pauses(WaveformFile([long.numpy()])).gain, whole) and len(whole) == len(long) // FRAME
    gated, parts = torch.ones(len(long)), torch.ones(len(long))
    apply_gain(gated, whole)
    curve = torch.nn.functional.interpolate(whole[None, None], size=len(long), mode="linear")[0, 0]
    torch.testing.assert_close(gated, parts * curve, atol=1e-4, rtol=0)


def test_a_conversion_has_the_pauses_of_its_source(clean):
    converter = ssl_vc.VoiceConverter.from_pretrained("tiny", matcher="knn", device="cpu")
    voice = converter.enroll(clean)
    torch.manual_seed(0)
    noisy = clean + 0.1 * clean[:16_000].square().mean().sqrt() * torch.randn(len(clean))
    wav = converter.convert(noisy, voice)
    inner = slice(PAUSE.start + 2400, PAUSE.stop - 2400)
    assert decibels(wav[:16_000]) - decibels(wav[inner]) > decibels(noisy[:16_000]) - decibels(noisy[inner]) + 6
    assert converter.convert(clean, voice)[inner].abs().max() == 0
    assert converter.convert(clean, voice, loudness=None)[inner].abs().max() > 0  # as the vocoder has it


def test_a_defective_source_is_named(clean):
    converter = ssl_vc.VoiceConverter.from_pretrained("tiny", matcher="knn", device="cpu")
    voice = converter.enroll(clean)
    torch.manual_seed(0)
    noisy = clean + 0.2 * clean[:16_000].square().mean().sqrt() * torch.randn(len(clean))

    def told(source):
        return " ".join(converter.convert_detailed(source, voice).warnings)

    assert "the source is" not in told(clean)
    assert "the source is noisy (its pauses are only 1" in told(noisy) and "is clipped" not in told(noisy)
    assert "the source is clipped (" in told((8 * clean).clamp(-0.9, 0.9))
