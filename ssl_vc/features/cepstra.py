"""Cepstra: the sound itself, beside what an encoder hears in it.

A small encoder knows which phone a frame is, and little of how it is said here: rising, falling, next to which other.
Among all the target's frames of that phone the nearest one should also sound alike, whoever speaks. So a frame is

    | the encoder's, of length 1 | sqrt(weight) times the cepstra and their slopes, of length 1 |

and the cosine of two such frames is the mean of both parts' cosines, the second with that weight. Of both parts the
clip's mean is taken off first: it tells who speaks, and into what microphone, and nothing of what is said.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pretrain.labels.mfcc import COUNT, frame_mfcc

COLUMNS = [*range(1, COUNT), *range(COUNT + 1, 2 * COUNT)]  # of the MFCC: not the level, nor its slope
DIM = len(COLUMNS)
LEVEL = 0.05  # root mean square that a clip is brought to: 1e-4 of it and less, in whatever band, is silence
LOUD = 0.6  # of a clip's frames tell its mean, the loudest: how much silence there is must not move it
ENOUGH = 50  # frames, 1 s, whose mean tells the speaker more than the words; of fewer a part of it is taken off
HELD = 30_000  # frames that are held to know their mean, 10 minutes; a longer clip has several
PIECE = 500  # frames that are given at once


def cepstra(wav: Tensor) -> Tensor:
    """Give the cepstra (frames, `DIM`) of a clip (samples,) less their mean, each row of length 1."""
    rows = frame_mfcc(wav[None] * (LEVEL / wav.square().mean().sqrt().clamp(min=1e-8)))[0]
    return normalize(rows[:, COLUMNS] - rows[loudest(rows[:, 0])][:, COLUMNS].mean(0), dim=1)


def loudest(levels: Tensor) -> Tensor:
    """Give the numbers of a clip's louder frames, of the levels (frames,) of all."""
    return levels.topk(max(round(LOUD * len(levels)), 1)).indices


def beside(frames: Tensor, sounds: Tensor, weight: float, mean: Tensor) -> Tensor:
    """Join frames (frames, dim) less a mean (dim,), and their cepstra (frames, `DIM`)."""
    return torch.cat([normalize(frames - mean, dim=1), weight**0.5 * sounds.to(frames)], dim=1)


def mean_of(total: Tensor, count: int) -> Tensor:
    """Give what is taken off frames (dim,), of which so many have this sum."""
    return total / max(count, ENOUGH)


def joined(pieces: Iterable[tuple[int, Tensor]], wavs: Sequence[Tensor], weight: float) -> Iterator[tuple[int, Tensor]]:
    """Join the frames of clips, (index of the clip, some of its frames) at a time, with the cepstra of their wavs."""
    for index, parts in groupby(pieces, itemgetter(0)):
        sounds, start = cepstra(wavs[index]), 0
        for block in _blocks(piece for _, piece in parts):
            made = beside(block, sounds[start : start + len(block)], weight, mean_of(block.sum(0), len(block)))
            start += len(block)
            yield from ((index, piece) for piece in made.split(PIECE))


def _blocks(pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    held: list[Tensor] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) >= HELD:
            yield torch.cat(held)
            held = []
    if held:
        yield torch.cat(held)
