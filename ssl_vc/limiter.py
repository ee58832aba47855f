"""Output level: the loudness that was asked for, with a look-ahead limiter that keeps true peaks below a ceiling.

    waveform --> true peak of each ms --> gain of each ms: held around peaks, then smoothed --> waveform times gain

The gain is never above what any sample needs, and as smooth as its window of 40 ms, so it does not distort.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, max_pool1d, pad

from ssl_vc.loudness import block_length, integrated_loudness, loudness

CEILING = -1.0  # dB of true peak, so that lossy codecs and converters do not clip
MOST = 12.0  # dB that a peak is lowered at most
LOOKAHEAD = 20  # ms on either side of a peak over which the gain falls and rises
OVERSAMPLING, TAPS = 8, 24  # of the interpolation that finds peaks between samples
BLOCK = 2**16  # samples interpolated at a time
TOLERANCE, TRIES = 0.1, 8  # in LU, of the search for the gain
MISSED = 0.5  # LU beside the target that are worth a note


def master(wav: Tensor, target: float, sample_rate: int) -> str | None:
    """Bring a mono waveform (samples,) to a loudness, in place, with true peaks of at most CEILING dBTP.

    Args:
        wav: changed in place; silence stays as it is.
        target: in LUFS.
        sample_rate: in Hz.

    Returns:
        A sentence if the target is missed, because peaks would be lowered by more than MOST dB.
    """
    measured = loudness(wav, sample_rate)
    if measured == -math.inf:
        return None
    peaks, gain = frame_peaks(wav, sample_rate), target - measured
    most = CEILING + MOST - 20 * math.log10(float(peaks.max()))
    gain = min(gain, most)
    reached = measured + gain
    for _ in range(TRIES if gain > most - MOST else 0):
        reached = integrated_loudness(_limited(wav, peaks, gain, sample_rate), sample_rate)
        if gain == most or abs(target - reached) <= TOLERANCE:
            break
        gain = min(gain + target - reached, most)
    for part, louder in zip(wav.split(block_length(sample_rate)), _limited(wav, peaks, gain, sample_rate), strict=True):
        part.copy_(louder)
    if abs(target - reached) <= MISSED:
        return None
    return (
        f"the output's loudness is {reached:.1f} LUFS instead of {target:g}, as its peaks would have to be lowered by "
        f"more than {MOST:g} dB."
    )


def frame_peaks(wav: Tensor, sample_rate: int) -> Tensor:
    """Return the true peak of each millisecond, and of a partial last one (frames,)."""
    frame, around = sample_rate // 1000, TAPS // 2
    kernel, peaks, length = _interpolation(), [], BLOCK // frame * frame
    for start in range(0, len(wav), length):
        stop = min(start + length, len(wav))
        span = wav[max(start - around, 0) : stop + around]
        span = pad(span, (max(around - start, 0), max(stop + around - len(wav), 0)))
        between = (span.unfold(0, TAPS, 1) @ kernel.to(span)).abs().amax(1)[: stop - start]
        highest = torch.maximum(between, wav[start:stop].abs())
        peaks.append(pad(highest, (0, -len(highest) % frame)).view(-1, frame).amax(1))
    return torch.cat(peaks)


def _interpolation() -> Tensor:
    """Return the windowed sinc that interpolates between the middle two of TAPS samples (TAPS, OVERSAMPLING)."""
    offset = torch.arange(OVERSAMPLING) / OVERSAMPLING
    distance = torch.arange(TAPS)[:, None] - TAPS // 2 - offset
    return torch.sinc(distance) * torch.cos(math.pi * distance / (TAPS + 2)).square()


def _limited(wav: Tensor, peaks: Tensor, gain: float, sample_rate: int) -> Iterator[Tensor]:
    """Yield a waveform with a gain in dB and its peaks limited, in blocks of `block_length`."""
    curve, frame = _gain_curve(peaks * 10 ** (gain / 20)).numpy() * 10 ** (gain / 20), sample_rate // 1000
    length = block_length(sample_rate)
    for start, block in zip(range(0, len(wav), length), wav.split(length), strict=True):
        yield block * interpolated(curve, start, len(block), frame).to(block)


def interpolated(curve: npt.NDArray[np.float64], start: int, count: int, frame: float) -> Tensor:
    """Return the values at `count` samples from `start` on of a curve that has one at the middle of each frame."""
    at = (np.arange(start, start + count) + 0.5) / frame - 0.5
    first = max(int(at[0]), 0)
    near = curve[first : int(at[-1]) + 2]
    return torch.from_numpy(np.interp(at - first, np.arange(len(near)), near))


def _gain_curve(peaks: Tensor) -> Tensor:
    """Return a smooth gain of each frame (frames,) that keeps it and its neighbours below the ceiling."""
    needed = (10 ** (CEILING / 20) / peaks.clamp(min=1e-9)).clamp(max=1).double()
    # held one frame longer than it is smoothed, as the samples of a frame take gains of its neighbours, too
    held = -_pool(max_pool1d, -needed, LOOKAHEAD + 1)
    half = LOOKAHEAD // 2
    return _pool(avg_pool1d, _pool(avg_pool1d, held, half), LOOKAHEAD - half)  # twice: without corners


def _pool(pool: Any, frames: Tensor, reach: int) -> Tensor:
    """Return a maximum or mean over `reach` frames on both sides of each, repeating those at the ends."""
    padded = pad(frames[None, None], (reach, reach), "replicate")
    return pool(padded, 2 * reach + 1, 1)[0, 0]
