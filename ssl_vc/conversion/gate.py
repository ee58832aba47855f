"""Noise gate: pauses of the source are pauses of the output, whatever noise in them was converted to.

level of each 20 ms --> below the pauses' threshold for 200 ms or longer? --> gain, with slopes of 60 ms
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, max_pool1d, pad

from ssl_vc.features.waveform import Waveform
from ssl_vc.limiter import interpolated

FRAME = 320  # samples at 16 kHz
BLOCK = 3000  # frames, a minute, whose levels are computed at a time
PAUSE = 10  # frames: shorter gaps are closures and consonants
SLOPE = 3  # frames over which the gain falls or rises
FLOOR, LOUD = 0.05, 0.9  # quantiles of the levels: the noise floor, and the speech
ABOVE_FLOOR, BELOW_SPEECH = 8.0, 15.0  # dB: the threshold is so far above one, and at least so far below the other
REDUCTION = 15.0  # dB in pauses
SILENCE = -90.0  # dB of full scale: a pause at this level becomes silence
SAMPLED = 1_000_000  # frames of a long source on which quantiles are computed


class Pauses(NamedTuple):
    """The pauses of a source.

    Attributes:
        gain: of each 20 ms (frames,): 1 in speech.
        noise: speech above the pauses, in dB; None without pauses, or if those are silent.
    """

    gain: Tensor
    noise: float | None


def find_pauses(wav: Waveform) -> Pauses:
    """Find the pauses of a source at 16 kHz."""
    blocks = (wav[start : start + BLOCK * FRAME] for start in range(0, len(wav), BLOCK * FRAME))
    level = torch.cat([_levels(block) for block in blocks])
    sampled = level[:: -(-len(level) // SAMPLED)]
    floor, loud = (float(sampled.quantile(quantile)) for quantile in (FLOOR, LOUD))
    paused = _lasting(level < min(floor + ABOVE_FLOOR, loud - BELOW_SPEECH))
    silent = _lasting(level < SILENCE)
    gain = torch.where(silent, 0.0, torch.where(paused, 10 ** (-REDUCTION / 20), 1.0))
    padded = pad(gain[None, None], (2 * SLOPE, 2 * SLOPE), "replicate")
    widened = max_pool1d(padded, 2 * SLOPE + 1, 1)  # so that speech keeps its level
    noisy = level[paused & (level >= SILENCE)]
    speech = _mean(level[level > loud - BELOW_SPEECH])
    return Pauses(avg_pool1d(widened, 2 * SLOPE + 1, 1)[0, 0], speech - _mean(noisy) if len(noisy) else None)


def apply_gain(wav: Tensor, gain: Tensor) -> None:
    """Multiply a waveform (samples,), in place, by the gain of each of its equal parts (frames,)."""
    if bool((gain == 1).all()):
        return
    curve, start = gain.double().numpy(), 0
    for part in wav.split(BLOCK * FRAME):
        part.mul_(interpolated(curve, start, len(part), len(wav) / len(curve)).to(part))
        start += len(part)


def _levels(wav: Tensor) -> Tensor:
    """Return the level of each 20 ms in dB of full scale."""
    padded = pad(wav, (0, -len(wav) % FRAME))
    return 10 * padded.view(-1, FRAME).square().mean(1).clamp(min=1e-12).log10()


def _mean(levels: Tensor) -> float:
    """Return the level of frames together, in dB."""
    return 10 * math.log10(float((10 ** (levels.double() / 10)).mean()))


def _lasting(quiet: Tensor) -> Tensor:
    """Return which frames are in runs of at least `PAUSE` quiet ones (frames,)."""
    if len(quiet) < PAUSE:
        return torch.zeros_like(quiet)
    starts = quiet.unfold(0, PAUSE, 1).all(1)
    return pad(starts, (PAUSE - 1, PAUSE - 1)).unfold(0, PAUSE, 1).any(1)
