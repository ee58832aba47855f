"""Cepstra: the sound itself, beside what an encoder hears in it.

A small encoder knows which phone a frame is, and little of how it is said here: rising, falling, next to which other.
Among all the target's frames of that phone the nearest one should also sound alike, whoever speaks. So a frame is

    | the encoder's, of length 1 | sqrt(weight) times the cepstra and their slopes, of length 1 |

and the cosine of two such frames is the mean of both parts' cosines, the second with that weight.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pretrain.mfcc import COUNT, frame_mfcc

COLUMNS = [*range(1, COUNT), *range(COUNT + 1, 2 * COUNT)]  # of the MFCC: not the level, nor its slope
DIM = len(COLUMNS)
LEVEL = 0.05  # root mean square that a clip is brought to: 1e-4 of it and less, in whatever band, is silence
LOUD = 0.6  # of a clip's frames tell its mean, the loudest: how much silence there is must not move it


def cepstra(wav: Tensor) -> Tensor:
    """Give the cepstra (frames, `DIM`) of a clip (samples,) less their mean, each row of length 1.

    The mean is that of the speaker and the microphone: what is left is what the frames of one phone have in common.
    """
    rows = frame_mfcc(wav[None] * (LEVEL / wav.square().mean().sqrt().clamp(min=1e-8)))[0]
    loudest = rows[:, 0].topk(max(round(LOUD * len(rows)), 1)).indices
    return normalize(rows[:, COLUMNS] - rows[loudest][:, COLUMNS].mean(0), dim=1)


def beside(frames: Tensor, sounds: Tensor, weight: float) -> Tensor:
    """Join frames (frames, dim) and their cepstra (frames, `DIM`)."""
    return torch.cat([normalize(frames, dim=1), weight**0.5 * sounds.to(frames)], dim=1)
