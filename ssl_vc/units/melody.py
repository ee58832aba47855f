"""Melodies as numbers: a code for four frames, by vector quantisation; a code for a run; a byte for every frame.

Polyak et al. (2021, arXiv 2104.00355) learn 20 codes at 12.5 a second with a network; here they are the centres that
k-means finds among stretches of four frames, each their voicing and log F0 beside the clip's median.
"""

import math

import torch
from torch import Tensor

from pretrain.labels.kmeans import KMeans
from ssl_vc.features.disentangled import through_unvoiced
from ssl_vc.units.file import BLOCK
from vocoder.pitch import level_of

VOICING = 0.3  # what a wrong voicing weighs, beside an error of log F0
LOW, HIGH = 50.0, 600.0  # Hz that a byte can say
LEVELS = 254  # between them; 0 is unvoiced
REACH = 0.7  # of log F0 about the median that a run's code can say, in natural logarithms: an octave


def blocks(pitch: Tensor) -> Tensor:
    """Give stretches of four frames (ceil(frames / 4), 8) of a track: log F0 beside the median, then voicing."""
    height = through_unvoiced(pitch) - math.log(level_of(pitch))
    spare = -len(pitch) % BLOCK
    height, voiced = (
        torch.cat([row, row[-1:].expand(spare)]).view(-1, BLOCK) for row in (height, (pitch > 0).to(height))
    )
    return torch.cat([height * (voiced.sum(1, keepdim=True) > 0), VOICING * voiced], 1)


def coded(pitch: Tensor, codes: KMeans) -> Tensor:
    """Give a track's codes."""
    return codes(blocks(pitch))


def from_codes(numbers: Tensor, codes: KMeans, level: float, frames: int) -> Tensor:
    """Give the track (frames,) of codes, at a median of `level` Hz."""
    centres = codes.centres[numbers]
    height, voiced = centres[:, :BLOCK].flatten(), centres[:, BLOCK:].flatten() > VOICING / 2
    return (level * height.exp() * voiced)[:frames]


def to_bytes(pitch: Tensor) -> Tensor:
    """Give a byte for every frame of a track."""
    step = math.log(HIGH / LOW) / LEVELS
    number = ((pitch.clamp(LOW, HIGH) / LOW).log() / step).round().long() + 1
    return torch.where(pitch > 0, number, 0)


def from_bytes(numbers: Tensor) -> Tensor:
    """Give the track of bytes."""
    step = math.log(HIGH / LOW) / LEVELS
    return torch.where(numbers > 0, LOW * ((numbers - 1) * step).exp(), 0.0)


def coded_runs(pitch: Tensor, lengths: Tensor, kinds: int) -> Tensor:
    """Give a code for every run of a track: 0 where most of it is unvoiced, else how high it is."""
    height = through_unvoiced(pitch) - math.log(level_of(pitch))
    means, voiced = (run_means(row, lengths) for row in (height, (pitch > 0).to(height)))
    number = 1 + ((means / REACH).clamp(-1, 1) * (kinds - 2) / 2 + (kinds - 2) / 2).round().long()
    return torch.where(voiced > 0.5, number, 0)


def from_run_codes(numbers: Tensor, kinds: int) -> tuple[Tensor, Tensor]:
    """Give log F0 beside the median, and whether it is voiced, of codes for runs (runs,)."""
    return ((numbers - 1) * 2 / (kinds - 2) - 1) * REACH * (numbers > 0), numbers > 0


def run_means(values: Tensor, lengths: Tensor) -> Tensor:
    """Give the mean of each run's frames (runs,)."""
    total = values.new_zeros(len(lengths)).index_add(0, torch.arange(len(lengths)).repeat_interleave(lengths), values)
    return total / lengths
