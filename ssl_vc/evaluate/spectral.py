"""How far two sounds are from each other in their spectra."""

import math

import numpy as np
import numpy.typing as npt
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
    frames, others = (in_blocks(mel, wav) for wav in _same_length(original, copy))
    return float((frames - others).abs().mean()) if len(frames) else None


def mel_cepstral_distortion(original: Tensor, copy: Tensor) -> float | None:
    """Measure the mel-cepstral distortion of wavs (samples,) at 16 kHz, in dB, over the original's audible frames.

    Kubichek, 1993: 10 / ln 10 * sqrt(2 * sum of squared differences of coefficients 1 to 24). With log S = sum of
    c_m cos(m w) over the warped frequency w, that is the root mean square difference of two smooth spectra in dB.
    """
    cepstrum = Mfcc(CEPSTRUM, ORDER + 1)
    frames, others = (in_blocks(cepstrum.mel, wav) for wav in _same_length(original, copy))
    if not len(frames) or original.abs().max() < SILENCE:
        return None
    differences = _envelopes((frames - others)[_audible(frames)], cepstrum)
    return float(differences.square().sum(1).sqrt().mean())


def aligned_distortion(reading: Tensor, copy: Tensor) -> float | None:
    """Measure the mel-cepstral distortion, in dB, of two sounds that say the same at different paces.

    The audible frames of both are walked through together on the path where the mean is taken of least distortion in
    sum; a frame may be met more than once, none is left out (Sakoe and Chiba, 1978, "Dynamic programming algorithm
    optimization for spoken word recognition", without its bounds on the slope). Takes little memory however long the
    two are, and time by the product of their lengths: ten seconds of each half a second, a minute of each eight.

    Args:
        reading: what is to be reached, (samples,) at 16 kHz.
        copy: what is judged, (other samples,).
    """
    cepstrum = Mfcc(CEPSTRUM, ORDER + 1)
    said = []
    for wav in (reading, copy):
        if len(wav) < CEPSTRUM.hop_length or wav.abs().max() < SILENCE:
            return None
        frames = in_blocks(cepstrum.mel, wav / wav.abs().max())  # or the floor of the logarithm would know the level
        said.append(_envelopes(frames[_audible(frames)], cepstrum).numpy(force=True))
    return _mean_along_path(*said)


def in_blocks(mel: Mel, wav: Tensor) -> Tensor:
    """Give the log-mel frames (frames, bands) of a wav (samples,); none of one that is shorter than a hop."""
    hop = mel.config.hop_length
    blocks = [mel(block[None])[0] for block in wav.split(BLOCK) if len(block) >= hop]
    return torch.cat(blocks) if blocks else torch.empty(0, mel.dim)


def _same_length(original: Tensor, copy: Tensor) -> tuple[Tensor, Tensor]:
    length = min(len(original), len(copy))
    return original[:length], copy[:length]


def _audible(frames: Tensor) -> Tensor:
    """Which of log-mel frames (frames, bands) are not silent beside the loudest one (frames,)."""
    level = 10 * (2 * frames).logsumexp(1) / math.log(10)
    return level >= level.max() + AUDIBLE


def _envelopes(frames: Tensor, cepstrum: Mfcc) -> Tensor:
    """Coefficients (frames, ORDER) of log-mel frames, scaled so that the distance of two is their distortion in dB."""
    # orthonormal cosine terms are sqrt(bands / 2) times Kubichek's c_m
    return frames @ cepstrum.cosines[1:].T * (10 / math.log(10) * 2 / CEPSTRUM.bands**0.5)


def _mean_along_path(frames: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> float:
    """Mean distance of (frames, dim) and (others, dim) on the path through both where its sum is least.

    A cell (i, j) is reached from three, all of them on the two diagonals before its own, so that a diagonal is computed
    at once, and no more than three are held. The path's length comes along, and nothing is traced back.

        j - 1  j
          a    b   i - 1      a is on diagonal i + j - 2, b and c on i + j - 1
          c    .   i          cell i of a diagonal is kept at i + 1: b is at i, c at i + 1, a at i
    """
    backwards = others[::-1]  # along a diagonal j falls while i rises
    width = len(frames) + 1
    before, last = np.full(width, np.inf), np.full(width, np.inf)
    steps_before, steps_last = np.zeros(width), np.zeros(width)
    before[0] = 0  # where every path begins
    for diagonal in range(len(frames) + len(others) - 1):
        low, high = max(0, diagonal - len(others) + 1), min(len(frames), diagonal + 1)
        shift = len(others) - 1 - diagonal
        step = frames[low:high] - backwards[low + shift : high + shift]
        distance = np.sqrt(np.einsum("fd,fd->f", step, step))
        total, steps = before[low:high], steps_before[low:high]
        for here in (slice(low, high), slice(low + 1, high + 1)):
            nearer = last[here] < total
            total, steps = np.where(nearer, last[here], total), np.where(nearer, steps_last[here], steps)
        before, steps_before = last, steps_last
        last, steps_last = np.full(width, np.inf), np.zeros(width)
        last[low + 1 : high + 1], steps_last[low + 1 : high + 1] = total + distance, steps + 1
    return float(last[-1] / steps_last[-1])
