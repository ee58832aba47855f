"""Distance of two F0 contours."""

from typing import NamedTuple

import torch
from torch import Tensor

from vocoder.pitch import track_pitch

HOP = 80  # samples: 5 ms
MIN_VOICED = 0.1  # share of the original's voiced frames that must be voiced in the copy too
MONOTONE = 5.0  # cents RMS: less movement than this is tracking error


class PitchError(NamedTuple):
    """Difference of two F0 contours.

    Attributes:
        hertz: RMSE of F0 in Hz where both are voiced; None where they hardly ever are.
        cents: the same in hundredths of a semitone.
        voicing: frames voiced in one and not in the other, in percent.
        correlation: Pearson's, of log F0 where both are voiced; None also for a monotone.
    """

    hertz: float | None
    cents: float | None
    voicing: float | None
    correlation: float | None


def pitch_error(original: Tensor, copy: Tensor) -> PitchError:
    """Compare the F0 of two aligned wavs (samples,) at 16 kHz, every 5 ms."""
    length = min(len(original), len(copy))
    if length < HOP:
        return PitchError(None, None, None, None)
    first, second = (track_pitch(wav[:length], hop_length=HOP).double() for wav in (original, copy))
    voiced = (first > 0) & (second > 0)
    voicing = 100 * float(((first > 0) != (second > 0)).double().mean())
    if voiced.sum() <= MIN_VOICED * (first > 0).sum():
        return PitchError(None, None, voicing, None)
    first, second = first[voiced], second[voiced]
    cents = 1200 * first.log2(), 1200 * second.log2()
    return PitchError(_rms(second - first), _rms(cents[1] - cents[0]), voicing, _correlation(*cents))


def _correlation(first: Tensor, second: Tensor) -> float | None:
    first, second = first - first.mean(), second - second.mean()
    if min(_rms(first), _rms(second)) < MONOTONE:
        return None
    return float((first * second).mean()) / (_rms(first) * _rms(second))


def _rms(values: Tensor) -> float:
    return float(torch.mean(values.square()).sqrt())
