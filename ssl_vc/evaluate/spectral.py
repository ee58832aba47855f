"""Spectral distances of two clips."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE, SILENCE
from vocoder.mel import Mel, MelConfig, Mfcc

ORDER = 24  # cepstral coefficients, without the level
CEPSTRUM = MelConfig(n_fft=512, hop_length=80)  # windows of 32 ms every 5 ms
AUDIBLE = -40.0  # dB below the loudest frame; quieter frames are left out
BLOCK = 60 * SAMPLE_RATE  # an hour at once would be gigabytes of spectra


def mel_distance(original: Tensor, copy: Tensor) -> float | None:
    """Returns the mean absolute difference of the natural log-mel spectrograms of wavs (samples,) at 16 kHz."""
    mel = Mel()
    frames, others = (log_mel_blocks(mel, wav) for wav in _same_length(original, copy))
    return float((frames - others).abs().mean()) if len(frames) else None


def mel_cepstral_distortion(original: Tensor, copy: Tensor) -> float | None:
    """Returns the mel-cepstral distortion of wavs (samples,) at 16 kHz, in dB, over the original's audible frames.

    Kubichek, 1993: 10 / ln 10 * sqrt(2 * sum of squared differences of coefficients 1 to 24). With log S = sum of
    c_m cos(m w) over the warped frequency w, that is the root mean square difference of two smooth spectra in dB.
    """
    cepstrum = Mfcc(CEPSTRUM, ORDER + 1)
    frames, others = (log_mel_blocks(cepstrum.mel, wav) for wav in _same_length(original, copy))
    if not len(frames) or original.abs().max() < SILENCE:
        return None
    differences = _envelopes((frames - others)[_audible(frames)], cepstrum)
    return float(differences.square().sum(1).sqrt().mean())


def aligned_distortion(reading: Tensor, copy: Tensor) -> float | None:
    """Returns the time-aligned mel-cepstral distortion, in dB, of two readings of the same words.

    The mean is over the dynamic time warping path of least total distortion through the audible frames of both (Sakoe
    and Chiba, 1978, "Dynamic programming algorithm optimization for spoken word recognition", without its slope
    constraint). Memory is linear and time quadratic in the length: ten seconds take half a second, a minute eight.

    Args:
        reading: reference, (samples,) at 16 kHz.
        copy: the clip to score, (other samples,).
    """
    cepstrum = Mfcc(CEPSTRUM, ORDER + 1)
    envelopes = []
    for wav in (reading, copy):
        if len(wav) < CEPSTRUM.hop_length or wav.abs().max() < SILENCE:
            return None
        frames = log_mel_blocks(
            cepstrum.mel, wav / wav.abs().max()
        )  # else the floor of the logarithm depends on the level
        envelopes.append(_envelopes(frames[_audible(frames)], cepstrum).numpy(force=True))
    return _mean_along_path(*envelopes)


def log_mel_blocks(mel: Mel, wav: Tensor) -> Tensor:
    """Returns the log-mel frames (frames, bands) of a wav (samples,), computed in blocks; none below one hop."""
    hop = mel.config.hop_length
    blocks = [mel(block[None])[0] for block in wav.split(BLOCK) if len(block) >= hop]
    return torch.cat(blocks) if blocks else torch.empty(0, mel.dim)


def _same_length(original: Tensor, copy: Tensor) -> tuple[Tensor, Tensor]:
    length = min(len(original), len(copy))
    return original[:length], copy[:length]


def _audible(frames: Tensor) -> Tensor:
    """Mask (frames,) of the log-mel frames (frames, bands) that are not silent relative to the loudest one."""
    level = 10 * (2 * frames).logsumexp(1) / math.log(10)
    return level >= level.max() + AUDIBLE


def _envelopes(frames: Tensor, cepstrum: Mfcc) -> Tensor:
    """Coefficients (frames, ORDER) of log-mel frames, scaled so that their distance is the distortion in dB."""
    # orthonormal cosine terms are sqrt(bands / 2) times Kubichek's c_m
    return frames @ cepstrum.dct[1:].T * (10 / math.log(10) * 2 / CEPSTRUM.bands**0.5)


def _mean_along_path(frames: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> float:
    """Mean distance of (frames, dim) and (others, dim) on the path of least total distance.

    The three predecessors of a cell (i, j) lie on the two diagonals before it, so a whole diagonal is computed at once,
    and only three are kept. The path's length is carried along, so nothing is traced back.

        j - 1  j
          a    b   i - 1      a is on diagonal i + j - 2, b and c on i + j - 1
          c    .   i          cell i of a diagonal is stored at i + 1: b is at i, c at i + 1, a at i
    """
    backwards = others[::-1]  # along a diagonal j falls while i rises
    width = len(frames) + 1
    before, last = np.full(width, np.inf), np.full(width, np.inf)
    steps_before, steps_last = np.zeros(width), np.zeros(width)
    before[0] = 0  # start of every path
    for diagonal in range(len(frames) + len(others) - 1):
        low, high = max(0, diagonal - len(others) + 1), min(len(frames), diagonal + 1)
        shift = len(others) - 1 - diagonal
        step = frames[low:high] - backwards[low + shift : high + shift]
        distance = np.sqrt(np.einsum("fd,fd->f", step, step))
        total, steps = before[low:high], steps_before[low:high]
        for cells in (slice(low, high), slice(low + 1, high + 1)):
            nearer = last[cells] < total
            total, steps = np.where(nearer, last[cells], total), np.where(nearer, steps_last[cells], steps)
        before, steps_before = last, steps_last
        last, steps_last = np.full(width, np.inf), np.zeros(width)
        last[low + 1 : high + 1], steps_last[low + 1 : high + 1] = total + distance, steps + 1
    return float(last[-1] / steps_last[-1])
