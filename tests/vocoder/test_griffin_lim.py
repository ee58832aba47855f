import pytest
import torch

from vocoder.griffin_lim import GriffinLim, griffin_lim, spectral_convergence
from vocoder.mel import Mel, MelConfig, Mfcc
from vocoder.stft import stft


def chirp(seconds=1.0, rate=16_000):
    """Harmonics of a gliding tone, rising and falling in loudness."""
    time = torch.arange(int(seconds * rate)) / rate
    phase = 2 * torch.pi * (120 * time + 40 * time.square())
    wav = sum(torch.sin(n * phase) / n for n in range(1, 12))
    return (wav * (1.1 + torch.sin(9 * time)) * 0.1)[None]


@pytest.mark.parametrize("iterations", [1, 16, 32, 60])
def test_golden_tone(golden, iterations):
    """At least as good as librosa's, fast or classic."""
    case = golden("griffin_lim")
    wav, hop = case.input["wav"][None], case.config["hop"]
    wanted = stft(wav, torch.hann_window(1024), hop, "center", "constant").abs()
    generated = griffin_lim(wanted, hop, "center", iterations=iterations, pad_mode="constant")[:, : wav.shape[1]]
    rebuilt = stft(generated, torch.hann_window(1024), hop, "center", "constant").abs()
    convergence = (rebuilt - wanted).norm() / wanted.norm()
    assert convergence < case.output[f"sc_iter{iterations}"]
    assert convergence < case.output[f"sc_classic_iter{iterations}"]


@pytest.mark.parametrize("padding", ["same", "center"])
def test_it_converges_and_momentum_helps(padding):
    wav, window = chirp(), torch.hann_window(1024)
    wanted = stft(wav, window, 320, padding).abs()
    settings = [{"iterations": 0}, {"momentum": 0.0}, {}]
    start, classic, fast = (
        spectral_convergence(griffin_lim(wanted, 320, padding, **some)[:, : wav.shape[1]], wanted, 320, padding)
        for some in settings
    )
    assert fast < 0.85 * classic < 0.85 * start
    assert fast < 0.1


@pytest.mark.parametrize("features", [Mel(), Mfcc(count=40), Mel(MelConfig(22_050, hop_length=256, padding="center"))])
def test_vocoder(features):
    wav = chirp(rate=features.config.sample_rate)
    frames = features(wav)
    generated = GriffinLim(features)(frames)
    assert generated.shape == (1, frames.shape[1] * features.config.hop_length)
    again = features(generated)[:, : frames.shape[1]]
    untouched = (frames - frames.mean(1, keepdim=True)).abs().mean()
    assert (again - frames).abs().mean() < 0.25 * untouched


def test_magnitudes_match_the_mel_frames():
    vocoder = GriffinLim()
    wanted = Mel()(chirp()).exp()
    magnitude = vocoder.magnitude(wanted)
    assert magnitude.min() >= 0
    assert ((magnitude @ vocoder.filters.T - wanted).norm() / wanted.norm()) < 0.02


def test_silence_stays_silent():
    generated = GriffinLim()(Mel()(torch.zeros(1, 8000)))
    assert torch.isfinite(generated).all()
    assert generated.abs().max() < 0.01


def test_batch_equals_single_rows():
    frames = Mel()(torch.cat([chirp(), chirp().flip(1), chirp() * 0.5]))
    lengths = torch.tensor([50, 20, 35])
    vocoder = GriffinLim(iterations=8)
    together = vocoder(frames, lengths)
    for row, length in enumerate(lengths):
        alone = vocoder(frames[row : row + 1, :length])
        assert torch.allclose(together[row, : length * 320], alone[0], atol=1e-5)
        assert not together[row, length * 320 :].any()
