"""Cepstra: the waveform's own MFCC, appended to an encoder's frames.

A small encoder tells which phone a frame is, but little of its realisation: rising or falling, and in which context. Of
all the target's frames of a phone the nearest one should also sound alike, whoever speaks. So a frame is

    | the encoder's, normalised | sqrt(weight) times the cepstra and their slopes, normalised |

and the cosine of two such frames is the weighted mean of both parts' cosines. The clip's mean is subtracted from both
parts first: it carries the speaker and the microphone, and none of the content.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pretrain.encoder.framing import HOP, RECEPTIVE_FIELD, num_frames
from pretrain.labels.mfcc import NUM_CEPSTRA, frame_mfcc
from ssl_vc.features.waveform import Waveform, WaveformFile

COLUMNS = [
    *range(1, NUM_CEPSTRA),
    *range(NUM_CEPSTRA + 1, 2 * NUM_CEPSTRA),
]  # of the MFCC: neither the level nor its slope
DIM = len(COLUMNS)
LEVEL = 0.05  # root mean square that a clip is scaled to: 1e-4 of it and less, in any band, is silence
LOUD = 0.6  # share of a clip's frames, the loudest, that determine its mean, which silence must not move
ENOUGH = 50  # frames, 1 s, whose mean tells the speaker more than the words; that of fewer is shrunk
HELD = 30_000  # frames buffered for their mean, 10 minutes; a longer clip has several means
CHUNK = 500  # frames yielded at once
BLOCK = 3000  # frames of a long clip whose cepstra are computed at a time
CONTEXT = 2  # frames on each side, on which their slopes depend


def cepstra(wav: Waveform) -> Tensor:
    """Return the mean-normalised cepstra (frames, `DIM`) of a clip (samples,), each row of length 1."""
    rows, levels = _mfcc(wav, wav.square().mean().sqrt()) if isinstance(wav, Tensor) else _mfcc_of_file(wav)
    return normalize(rows - rows[loudest(levels)].mean(0), dim=1)


def _mfcc(wav: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cepstra (frames, `DIM`) and the levels (frames,) of a waveform with this root mean square."""
    rows = frame_mfcc(wav[None] * (LEVEL / level.clamp(min=1e-8)))[0]
    return rows[:, COLUMNS], rows[:, 0]


def _mfcc_of_file(wav: WaveformFile) -> tuple[Tensor, Tensor]:
    """Return the same, computed block by block."""
    squares = [float(wav[start : start + BLOCK * HOP].square().sum()) for start in range(0, len(wav), BLOCK * HOP)]
    level = torch.tensor(sum(squares) / len(wav)).sqrt()
    frames = num_frames(len(wav))
    rows, levels = torch.empty(frames, DIM), torch.empty(frames)
    for start in range(0, frames, BLOCK):
        before, stop = min(start, CONTEXT), min(start + BLOCK, frames)
        block = wav[(start - before) * HOP : (stop + CONTEXT) * HOP + RECEPTIVE_FIELD]
        for whole, part in zip((rows, levels), _mfcc(block, level), strict=True):
            whole[start:stop] = part[before : before + stop - start]
    return rows, levels


def loudest(levels: Tensor) -> Tensor:
    """Return the indices of a clip's louder frames, given the levels (frames,) of all."""
    return levels.topk(max(round(LOUD * len(levels)), 1)).indices


def append_cepstra(frames: Tensor, rows: Tensor, weight: float, mean: Tensor) -> Tensor:
    """Concatenate frames (frames, dim), less a mean (dim,), and their cepstra (frames, `DIM`)."""
    return torch.cat([normalize(frames - mean, dim=1), weight**0.5 * rows.to(frames)], dim=1)


def shrunk_mean(total: Tensor, count: int) -> Tensor:
    """Return the mean (dim,) of `count` frames with this sum, shrunk towards 0 where they are few."""
    return total / max(count, ENOUGH)


def stream_with_cepstra(
    chunks: Iterable[tuple[int, Tensor]], wavs: Sequence[Waveform], weight: float
) -> Iterator[tuple[int, Tensor]]:
    """Append their waveforms' cepstra to the frames of clips, which come as (index of the clip, some of its frames)."""
    for index, clip in groupby(chunks, itemgetter(0)):
        rows, start = cepstra(wavs[index]), 0
        for block in _blocks(chunk for _, chunk in clip):
            mean = shrunk_mean(block.sum(0), len(block))
            for chunk in block.split(CHUNK):
                yield index, append_cepstra(chunk, rows[start : start + len(chunk)], weight, mean)
                start += len(chunk)


def _blocks(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    held: list[Tensor] = []
    for chunk in chunks:
        held.append(chunk)
        if sum(map(len, held)) >= HELD:
            yield torch.cat(held)
            held = []
    if held:
        yield torch.cat(held)
