"""Frames that are NaN or infinite are not written, and audio that would make them is not read."""

import pytest
import torch

import ssl_vc
from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc.audio import LARGEST_PEAK, AudioError
from ssl_vc.features.extractor import Extractor

SMALL = {"conv_dim": 16, "dim": 32, "depth": 1, "heads": 4, "ffn_dim": 64, "matching_layer": 1}
KINDS = {
    "wavlm-base": EncoderConfig.wavlm_base(**SMALL),
    "wavlm-large": EncoderConfig.wavlm_large(**SMALL),
    "log-mel": EncoderConfig.tiny(**SMALL, cepstra=0.5),
}


@pytest.fixture(params=KINDS)
def encoder(request):
    torch.manual_seed(0)
    return SpeechEncoder(KINDS[request.param]).eval()


def test_frames_that_are_not_finite(encoder, speech, tmp_path):
    torch.nn.init.constant_(encoder.project.bias, float("nan"))
    with pytest.raises(ValueError, match="the frames are NaN or infinite"):
        Extractor(encoder)(speech(1))
    with pytest.raises(ValueError, match="the frames are NaN or infinite"):
        Extractor(encoder).save(speech(1), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_an_absurd_peak(tmp_path, run, speech):
    import soundfile

    soundfile.write(tmp_path / "a.wav", 1e30 * speech(1).numpy(), 16_000, "FLOAT")
    status, _, stderr = run("extract", tmp_path / "a.wav", "-o", tmp_path / "out")
    assert status == 1
    assert "a.wav' has a peak of 4e+29, and full scale is 1; scale it first." in stderr
    assert not list((tmp_path / "out").glob("*"))


def test_integers_that_were_not_scaled(encoder, speech):
    """The largest samples that anybody records, of 32 bits, give finite frames."""
    wav = speech(1)
    wav *= LARGEST_PEAK / wav.abs().max()
    assert Extractor(encoder)(wav).isfinite().all()
    with pytest.raises(AudioError, match="full scale is 1"):
        ssl_vc.read(1.01 * wav)
