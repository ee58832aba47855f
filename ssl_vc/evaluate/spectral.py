"""How far two aligned sounds are from each other in their spectra."""

import math

import torch
from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE, SILENCE
from vocoder.mel import Mel, MelConfig, Mfcc

ORDER = 24  # cepstral coefficients that are compared, without the level
CEPSTRUM = MelConfig(n_fft=512, hop_length=80)  # windows of 32 ms every 5 ms
AUDIBLE = -40.0  # dB; what is quieter than this beside the loudest frame does not count
BLOCK = 60 * SAMPLE_RATE  # an hour in one piece would be gigabytes of spectra


def mel_distance(original: Tensor, copy: Tensor) -> float | None:
    """Measure the mean difference of two log-mel spectrograms (natural logarithm) of wavs (samples,) at 16 kHz."""
    mel = Mel()
    frames, others = (_in_blocks(mel, wav) for wav in _same_length(original, copy))
    return float((frames - others).abs().mean()) if len(frames) else None


def mel_cepstral_distortion(original: Tensor, copy: Tensor) -> float | None:
    """Measure the mel-cepstral distortion of wavs (samples,) at 16 kHz, in dB, over the original's audible frames.

    Kubichek, 1993: 10 / ln 10 * sqrt(2 * sum of squared differences of coefficients 1 to 24). With log S = sum of
    c_m cos(m w) over the warped frequency w, that is the root mean square difference of two smooth spectra in dB.
    """
    cepstrum = Mfcc(CEPSTRUM, ORDER + 1)
    frames, others = (_in_blocks(cepstrum.mel, wav) for wav in _same_length(original, copy))
    if not len(frames) or original.abs().max() < SILENCE:
        return None
    level = 10 * (2 * frames).logsumexp(1) / math.log(10)
    audible = level >= level.max() + AUDIBLE
    # orthonormal cosine terms are sqrt(bands / 2) times the c_m above
    differences = (frames - others)[audible] @ cepstrum.cosines[1:].T
    squares = differences.square().sum(1) * 2 / CEPSTRUM.bands
    return float((10 / math.log(10) * (2 * squares).sqrt()).mean())


def _same_length(original: Tensor, copy: Tensor) -> tuple[Tensor, Tensor]:
    length = min(len(original), len(copy))
    return original[:length], copy[:length]


def _in_blocks(features: Mel, wav: Tensor) -> Tensor:
    """Give the frames (frames, dim) of a wav (samples,); none of one that is shorter than a hop."""
    hop = features.config.hop_length
    blocks = [features(block[None])[0] for block in wav.split(BLOCK) if len(block) >= hop]
    return torch.cat(blocks) if blocks else torch.empty(0, features.dim)
