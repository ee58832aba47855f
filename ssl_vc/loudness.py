"""Loudness by ITU-R BS.1770-4: measured in LUFS, and waveforms scaled to a target."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE

LOUDNESS = -16.0  # LUFS, of output


def loudness(wav: Tensor, sample_rate: int = SAMPLE_RATE) -> float:
    """Measure the integrated loudness (ITU-R BS.1770-4) of a mono waveform (samples,), at 4 kHz or more, in LUFS.

    The mean over K-weighted blocks of 400 ms every 100 ms, less those below -70 LUFS, less those 10 LU below the mean
    of the rest. A clip under 400 ms is one block, whatever its level. Silence is minus infinity.
    """
    from scipy.signal import sosfilt  # 0.65 s, which `import ssl_vc` does not need

    samples, filters, state = wav.numpy(force=True), _k_weighting(sample_rate), np.zeros((2, 2))
    hop = round(sample_rate / 10)
    if len(samples) < 4 * hop:
        power = np.square(sosfilt(filters, samples)) if len(samples) else samples
    else:
        hops = []
        for start in range(0, len(samples), 600 * hop):  # a minute at a time: hours of doubles fill memory
            weighted, state = sosfilt(filters, samples[start : start + 600 * hop], zi=state)
            hops.append(np.square(weighted[: len(weighted) // hop * hop]).reshape(-1, hop).mean(1))
        power = np.convolve(np.concatenate(hops), np.full(4, 0.25), "valid")
        power = power[power > 10 ** ((0.691 - 70) / 10)]
        power = power[10 * len(power) * power > power.sum()]  # a tenth of the mean, without dividing by zero blocks
    return -0.691 + 10 * math.log10(power.mean()) if power.any() else -math.inf


def normalize_loudness(wav: Tensor, target: float = -16.0, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Scale a mono waveform (samples,) to `target` LUFS; silence is returned unchanged.

    The gain is limited to a peak of 1, so a waveform with a high crest factor stays below the target.
    """
    return wav * loudness_gain(wav, target, sample_rate)


def loudness_gain(wav: Tensor, target: float = -16.0, sample_rate: int = SAMPLE_RATE) -> float:
    """Return the gain of `normalize_loudness`."""
    measured = loudness(wav, sample_rate)
    if measured == -math.inf:
        return 1.0
    low, high = map(float, wav.aminmax())
    return min(10 ** ((target - measured) / 20), 1 / max(high, -low))


def _k_weighting(rate: int) -> npt.NDArray[Any]:
    """Return BS.1770's filters at `rate`, (2, 6) second-order sections, from the analogue prototypes of its table."""
    from scipy.signal import bilinear

    high, q = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    shelf = 1681.974450955533, [high, high**0.4996667741545416 / q, 1], [1, 1 / q, 1]
    # The table gives the high pass's numerator, 1, -2, 1, without its divisor: 0.04 dB too much, kept at every rate.
    excess = 4 / (1 + 1.99004745483398 + 0.99007225036621)
    high_pass = 38.13547087602444, [excess, 0, 0], [1, 1 / 0.5003270373238773, 1]
    # bilinear takes s = 2 fs (z - 1) / (z + 1); this fs keeps each edge, s = i in its prototype, on its own frequency.
    return np.array([np.hstack(bilinear(b, a, 0.5 / math.tan(math.pi * f / rate))) for f, b, a in (shelf, high_pass)])
