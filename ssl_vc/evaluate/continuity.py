"""How much more a copy jumps from frame to frame than its original, as sound put together from far pieces does."""

import math

from torch import Tensor

from ssl_vc.audio import SILENCE
from ssl_vc.evaluate.spectral import AUDIBLE, in_blocks
from ssl_vc.match.protocol import jump
from vocoder.mel import Mel, MelConfig

FRAMES = MelConfig(n_fft=512)  # a window of 32 ms every 20 ms; where they overlap more, neighbours cannot differ


def jumpiness(original: Tensor, copy: Tensor) -> float | None:
    """Give the steps between a copy's log-mel frames over those of its original: 1 is as smooth, more is rougher.

    Steps are what `ssl_vc.match.protocol.jump` measures, each sound's over its own frames in random order, so that a
    copy may be of another voice, level and length. What is quieter than noise often is does not count.

    Args:
        original: (samples,) at 16 kHz.
        copy: (other samples,), saying the same at about the same pace.
    """
    natural, made = (_steps(wav) for wav in (original, copy))
    return made / natural if natural and made else None


def _steps(wav: Tensor) -> float:
    frames = in_blocks(Mel(FRAMES), wav)
    if not len(frames) or wav.abs().max() < SILENCE:
        return 0.0
    return jump(frames.clamp(min=frames.max() + AUDIBLE * math.log(10) / 20))
