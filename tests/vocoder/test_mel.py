"""Mel and MFCC against public implementations (1e-4 on the log), and their properties."""

import pytest
import torch
import torch.nn.functional as F

from vocoder.mel import Mel, MelConfig, Mfcc, mel_filters
from vocoder.stft import istft, stft

TOLERANCE = 1e-4


def assert_close(ours, golden):
    assert ours.transpose(1, 2).shape == golden.shape
    assert (ours.transpose(1, 2) - golden).abs().max() < TOLERANCE


def from_published(config, **more):
    names = {
        "sampling_rate": "sample_rate",
        "hop_size": "hop_length",
        "num_mels": "bands",
        "fmin": "low",
        "fmax": "high",
    }
    names |= {"n_fft": "n_fft"}
    return MelConfig(**{names[key]: value for key, value in config.items() if key in names}, **more)


@pytest.mark.parametrize("which", ["a", "b"])
def test_hifigan(golden, which):
    case = golden("hifigan_mel")
    mel = Mel(from_published(case.config[which]))
    assert_close(mel(case.input["wav"]), case.output[f"mel_{which}"])
    if which == "a":
        assert (mel.filters - case.output["basis_a"]).abs().max() < 1e-7


def test_knnvc_log_mel(golden):
    case = golden("knnvc_mel")
    assert_close(Mel(from_published(case.config, epsilon=0.0))(case.input["wav"]), case.output["logmel_alt"])


def test_knnvc_mel_spectrogram(golden):
    """kNN-VC's other function first pads to the next multiple of the hop, by a whole hop if there is nothing to pad."""
    case = golden("knnvc_mel")
    wav = F.pad(case.input["wav"], (0, 320 - case.config["samples"] % 320), mode="reflect")
    assert_close(Mel(from_published(case.config))(wav), case.output["mel_spectrogram"])


def test_bigvgan(golden):
    case = golden("bigvgan_mel_losses")
    assert_close(Mel(from_published(case.config))(case.input["wav"]), case.output["mel"])


@pytest.mark.parametrize("padding", ["same", "center"])
def test_vocos(golden, padding):
    case = golden("vocos_mel")
    mel = Mel(MelConfig(24_000, 1024, 256, 100, scale="htk", padding=padding, floor=1e-7, epsilon=0.0))
    assert_close(mel(case.input["wav"]), case.output[f"mel_{padding}"])
    if padding == "center":
        loss = (mel(case.input["wav"]) - mel(case.input["other"])).abs().mean()
        assert abs(loss - case.output["mel_loss"]) < TOLERANCE


@pytest.mark.parametrize("samples", [320, 400, 1000, 16_000, 16_319])
def test_frames(samples):
    assert Mel()(torch.randn(2, samples)).shape == (2, samples // 320, 80)
    assert Mel(MelConfig(padding="center"))(torch.randn(2, samples)).shape == (2, samples // 320 + 1, 80)


def test_a_tone_peaks_in_its_band():
    wav = torch.sin(torch.arange(16_000) * 2 * torch.pi * 1000 / 16_000)[None]
    loudest = Mel()(wav)[0, 25].argmax()
    centre = mel_filters(16_000, 1024, 80)[loudest].argmax() * 16_000 / 1024
    assert abs(centre - 1000) < 40


def test_mfcc_inverts():
    wav = torch.randn(1, 16_000)
    whole = Mfcc(count=80)
    assert (whole.inverse(whole(wav)) - whole.mel(wav)).abs().max() < 1e-4
    some = Mfcc(count=20)
    assert some(wav).shape == (1, 50, 20)
    rough = (some.inverse(some(wav)) - some.mel(wav)).abs().mean()
    assert 0.01 < rough < (whole.mel(wav) - whole.mel(wav).mean(-1, keepdim=True)).abs().mean()


def test_mfcc_is_the_orthonormal_cosine_transform():
    from scipy.fft import dct

    mfcc = Mfcc(count=13)
    wav = torch.randn(1, 4000)
    assert torch.allclose(mfcc(wav), torch.from_numpy(dct(mfcc.mel(wav).numpy(), norm="ortho"))[..., :13], atol=1e-4)


@pytest.mark.parametrize("padding", ["same", "center"])
@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 320), (1024, 256), (1280, 320), (441, 147), (400, 399)])
def test_istft_inverts_stft(n_fft, hop, padding):
    wav = torch.randn(2, hop * 20)
    window = torch.hann_window(n_fft) + 0.01
    back = istft(stft(wav, window, hop, padding), window, hop, padding)
    assert (back[:, : wav.shape[1]] - wav).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"scale": "bark"}, "'slaney' and 'htk'"),
        ({"padding": "valid"}, "'same' and 'center'"),
        ({"hop_length": 2000}, "between 1 and n_fft"),
        ({"low": 9000.0}, "is required"),
    ],
)
def test_refusals(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        MelConfig(**settings)
    with pytest.raises(ValueError, match="1 to 80"):
        Mfcc(count=81)
