"""Loudness by ITU-R BS.1770-4: measured in LUFS, and waveforms scaled to a target."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE

LOUDNESS = -16.0  # LUFS, of output
DECAY = 0.15  # seconds after which the filters' impulse response is below 1e-13


def loudness(wav: Tensor, sample_rate: int = SAMPLE_RATE) -> float:
    """Measure the integrated loudness (ITU-R BS.1770-4) of a mono waveform (samples,), at 4 kHz or more, in LUFS.

    The mean over K-weighted blocks of 400 ms every 100 ms, less those below -70 LUFS, less those 10 LU below the mean
    of the rest. A clip under 400 ms is one block, whatever its level. Silence is minus infinity.
    """
    return integrated_loudness(wav.split(block_length(sample_rate)), sample_rate)


def integrated_loudness(blocks: Iterable[Tensor], sample_rate: int) -> float:
    """Measure the loudness of a waveform in blocks of `block_length`, of which the last may be shorter."""
    weighting, hop, powers, end = _KWeighting(sample_rate), round(sample_rate / 10), [], np.zeros(0)
    for block in blocks:
        squares = np.square(weighting(block.numpy(force=True)))
        whole = len(squares) // hop * hop
        powers.append(squares[:whole].reshape(-1, hop).mean(1))
        end = squares[whole:]
    power = np.concatenate([np.zeros(0), *powers])
    if len(power) < 4:
        samples = len(power) * hop + len(end)
        power = np.array([(power.sum() * hop + end.sum()) / max(samples, 1)])
    else:
        power = np.convolve(power, np.full(4, 0.25), "valid")
        power = power[power > 10 ** ((0.691 - 70) / 10)]
        power = power[10 * len(power) * power > power.sum()]  # a tenth of the mean, without dividing by zero blocks
    return -0.691 + 10 * math.log10(power.mean()) if power.any() else -math.inf


def normalize_loudness(wav: Tensor, target: float = LOUDNESS, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Scale a mono waveform (samples,) to `target` LUFS by one gain; silence is returned unchanged.

    The gain is limited to a peak of 1, so a waveform with a high crest factor stays below the target; see
    `ssl_vc.limiter.master` for one that reaches it.
    """
    measured = loudness(wav, sample_rate)
    if measured == -math.inf:
        return wav.clone()
    low, high = map(float, wav.aminmax())
    return wav * min(10 ** ((target - measured) / 20), 1 / max(high, -low))


def block_length(rate: int) -> int:
    """Return the samples measured at a time: whole steps of 100 ms, which fill an FFT with what precedes them."""
    hop = round(rate / 10)
    return (_fft_size(rate) - round(DECAY * rate)) // hop * hop


def _fft_size(rate: int) -> int:
    return 1 << math.ceil(math.log2(4 * rate))


class _KWeighting:
    """BS.1770's filters, applied to consecutive blocks by FFT: importing scipy's would cost more than converting."""

    def __init__(self, rate: int) -> None:
        self._response, self._past = k_response(rate, _fft_size(rate)), np.zeros(round(DECAY * rate))

    def __call__(self, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        span, size = np.concatenate([self._past, block]), 2 * (len(self._response) - 1)
        weighted = np.fft.irfft(np.fft.rfft(span, size) * self._response, size)
        start, self._past = len(self._past), span[len(span) - len(self._past) :]
        return weighted[start : len(span)]


def k_response(rate: int, size: int) -> npt.NDArray[Any]:
    """Return the response of BS.1770's filters at the frequencies of an FFT (size // 2 + 1,).

    They are the analogue prototypes of its table, through the bilinear transform that keeps each one's own frequency.
    """
    high, q = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    shelf = 1681.974450955533, [high, high**0.4996667741545416 / q, 1], [1, 1 / q, 1]
    # The table gives the high pass's numerator, 1, -2, 1, without its divisor: 0.04 dB too much, kept at every rate.
    excess = 4 / (1 + 1.99004745483398 + 0.99007225036621)
    high_pass = 38.13547087602444, [excess, 0, 0], [1, 1 / 0.5003270373238773, 1]
    bilinear = 1j * np.tan(np.pi * np.arange(size // 2 + 1) / size)
    response = np.ones(size // 2 + 1, complex)
    for frequency, b, a in (shelf, high_pass):
        s = bilinear / math.tan(math.pi * frequency / rate)
        response *= np.polyval(b, s) / np.polyval(a, s)
    return response
