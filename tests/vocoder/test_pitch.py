import pytest
import torch

import vocoder.pitch
from vocoder.pitch import track_pitch


def vowel(f0, rate=16_000, formants=((700, 90), (1200, 110), (2600, 160)), lowest=1):
    """A vowel with this F0 (samples,) and formants of these frequencies and bandwidths."""
    number = torch.arange(lowest, int(rate / 2 / f0.min()) + 1)[:, None]
    frequency = number * f0
    gain = 1 / number
    for centre, width in formants:
        gain = gain * centre**2 / ((centre**2 - frequency**2) ** 2 + (width * frequency) ** 2).sqrt()
    phase = 2 * torch.pi * ((f0.double() / rate).cumsum(0) % 1).float() * number
    wav = (torch.cos(phase) * gain * (frequency < 0.48 * rate)).sum(0)
    return 0.1 * wav / wav.square().mean().sqrt()


def steady(hertz, seconds=1.0, rate=16_000):
    return torch.full((int(seconds * rate),), float(hertz))


def noise(samples, seed=0):
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def glide(start, stop, seconds=2.0):
    return start * (stop / start) ** torch.linspace(0, 1, int(seconds * 16_000))


def middles(f0, hop=320):
    return f0[hop // 2 :: hop][: len(f0) // hop]


def cents(pitch, truth):
    return 1200 * (pitch / truth).log2().abs()


@pytest.mark.parametrize(
    ("rate", "hop"), [(8000, 160), (16_000, 320), (22_050, 256), (24_000, 480), (44_100, 882), (48_000, 960)]
)
def test_a_tone_of_200_hertz_is_200_hertz(rate, hop):
    harmonics = sum(torch.sin(2 * torch.pi * 200 * n * torch.arange(rate) / rate) / n for n in range(1, 11))
    pitch = track_pitch(harmonics, rate, hop)
    assert pitch.shape == (rate // hop,)
    assert ((pitch - 200).abs() < 2).all()


@pytest.mark.parametrize("hertz", [62, 80, 110, 160, 250, 350, 490])
def test_low_and_high_voices(hertz):
    pitch = track_pitch(vowel(steady(hertz)))[1:-1]
    assert cents(pitch, hertz).max() < 5


@pytest.mark.parametrize(("start", "stop"), [(70, 400), (400, 70), (100, 200), (330, 150)])
@pytest.mark.parametrize("level", [0.0, 0.03])
def test_no_octave_errors_on_glides(start, stop, level):
    f0 = glide(start, stop)
    pitch, truth = track_pitch(vowel(f0) + level * noise(len(f0)))[1:-1], middles(f0)[1:-1]
    assert cents(pitch, truth).max() < 100
    assert cents(pitch, truth).median() < 10


def test_frames_are_centred():
    """On a linear glide a misaligned tracker has a constant error."""
    f0 = glide(120, 240)
    pitch, truth = track_pitch(vowel(f0, formants=()))[2:-2], middles(f0)[2:-2]
    late = 1200 * (pitch / truth).log2().mean() / 600  # seconds: the glide rises 600 cents per second
    assert abs(late) < 0.001


def test_the_fundamental_may_be_missing():
    pitch = track_pitch(vowel(steady(150), lowest=3))
    assert cents(pitch, 150).max() < 10


@pytest.mark.parametrize("colour", ["white", "brown"])
def test_noise_is_unvoiced(colour):
    wav = noise(48_000)
    if colour == "brown":
        spectrum = torch.fft.rfft(wav)
        wav = torch.fft.irfft(spectrum / torch.arange(len(spectrum)).clamp(min=100))
    assert not track_pitch(wav).any()


def test_silence_is_unvoiced():
    assert not track_pitch(torch.zeros(16_000)).any()
    assert not track_pitch(torch.full((16_000,), 0.3)).any()  # a constant offset
    assert not track_pitch(1e-4 * noise(16_000)).any()


def test_voiced_segments_start_and_end_in_place():
    wav = torch.cat([0.02 * noise(8000), vowel(steady(140, 0.5)), torch.zeros(8000), vowel(steady(280, 0.5))])
    pitch = track_pitch(wav)
    assert not pitch[:24].any()
    assert cents(pitch[27:48], 140).max() < 20
    assert not pitch[51:74].any()
    assert cents(pitch[77:99], 280).max() < 20


def test_loudness_and_offset_do_not_matter():
    wav = vowel(glide(90, 260)) + 0.01 * noise(32_000)
    pitch = track_pitch(wav)
    for other in (1e-3 * wav, 30 * wav, wav + 0.2):
        assert cents(track_pitch(other), pitch)[1:-1].max() < 1


def test_chunks_equal_one_pass(monkeypatch):
    wav = torch.cat([vowel(glide(90, 260)), noise(8000) * 0.03, vowel(steady(300))])
    whole = track_pitch(wav)
    monkeypatch.setattr(vocoder.pitch, "CHUNK", 60)
    torch.testing.assert_close(track_pitch(wav), whole, rtol=1e-5, atol=0)


def test_batch_equals_single_rows():
    rows = torch.stack([vowel(glide(90, 260)), vowel(glide(350, 200)) * 0.01, noise(32_000), torch.zeros(32_000)])
    together = track_pitch(rows)
    assert together.shape == (4, 100)
    for row, pitch in zip(rows, together, strict=True):
        torch.testing.assert_close(track_pitch(row), pitch, rtol=1e-5, atol=0)


def test_trailing_silence_changes_nothing_before_it():
    wav = vowel(glide(90, 260))
    padded = track_pitch(torch.cat([wav, torch.zeros(16_000)]))
    assert cents(padded[:98], track_pitch(wav)[:98]).max() < 1
    assert not padded[101:].any()


@pytest.mark.parametrize("hop", [80, 160, 256, 640])
def test_other_hops_track_the_same_contour(hop):
    f0 = glide(200, 120)
    pitch, truth = (part[3:-3] for part in (track_pitch(vowel(f0), hop_length=hop), middles(f0, hop)))
    assert len(pitch) == 32_000 // hop - 6
    assert cents(pitch, truth).max() < 20


@pytest.mark.parametrize("samples", [0, 1, 319, 320, 321, 639, 640, 1000])
def test_every_whole_hop_is_a_frame(samples):
    wav = vowel(steady(200))[:samples]
    assert track_pitch(wav).shape == (samples // 320,)
    assert track_pitch(torch.stack([wav, wav])).shape == (2, samples // 320)


def test_the_search_range_decides_the_octave():
    """Two octaves of one tone: the range decides, down to a range of few lags."""
    tone = vowel(steady(240))
    for low, high, expected in ((100, 400, 240), (60, 160, 120), (235, 245, 240), (40, 1000, 240)):
        pitch = track_pitch(tone, low=low, high=high)[1:-1]
        assert cents(pitch, expected).max() < 10
    assert not track_pitch(tone, low=300, high=400)[1:-1].any()


def test_what_cannot_be_tracked_is_refused():
    wav = vowel(steady(200, 0.1))
    with pytest.raises(ValueError, match="NaN or infinite; repair it first"):
        track_pitch(wav.index_fill(0, torch.tensor([7]), torch.nan))
    with pytest.raises(ValueError, match=r"shape \(1, 1, 1600\); it must be \(samples,\) or \(batch, samples\)"):
        track_pitch(wav[None, None])
    with pytest.raises(ValueError, match="low is 500, high is 60; 20 <= low < high <= 1000 Hz is required"):
        track_pitch(wav, low=500, high=60)
    with pytest.raises(ValueError, match="sample_rate is 4000, hop_length is 320"):
        track_pitch(wav, 4000)
    with pytest.raises(ValueError, match="sample_rate is 16000, hop_length is 0"):
        track_pitch(wav, hop_length=0)
