"""Spectral discontinuity: how much more a conversion jumps from frame to frame than its source."""

import math

from torch import Tensor

from ssl_vc.audio import SILENCE
from ssl_vc.evaluate.spectral import AUDIBLE, log_mel_blocks
from ssl_vc.match.protocol import jump
from vocoder.mel import Mel, MelConfig

FRAMES = MelConfig(n_fft=512)  # a window of 32 ms every 20 ms; with more overlap, neighbouring frames could not differ


def jumpiness(original: Tensor, copy: Tensor) -> float | None:
    """Returns the steps between a copy's log-mel frames over those of its original: 1 is as smooth, more is rougher.

    Steps are measured by `ssl_vc.match.protocol.jump`, each clip's relative to its own frames in random order, so the
    copy may have another voice, level and length. Frames below the noise floor are clamped to it.

    Args:
        original: (samples,) at 16 kHz.
        copy: (other samples,), with the same words at about the same pace.
    """
    natural, converted = (_steps(wav) for wav in (original, copy))
    return converted / natural if natural and converted else None


def _steps(wav: Tensor) -> float:
    frames = log_mel_blocks(Mel(FRAMES), wav)
    if not len(frames) or wav.abs().max() < SILENCE:
        return 0.0
    return jump(frames.clamp(min=frames.max() + AUDIBLE * math.log(10) / 20))
