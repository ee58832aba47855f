"""F0 codes: the melody as integers, one per block of four frames (vector quantisation), per run, or per frame.

Polyak et al. (2021, arXiv 2104.00355) learn 20 codes at 12.5 Hz with a VQ-VAE; here they are k-means centres of blocks
of four frames: log F0 relative to the clip's median, and voicing.
"""

import math

import torch
from torch import Tensor

from pretrain.labels.kmeans import KMeans
from ssl_vc.features.disentangled import interpolated_log_f0
from ssl_vc.units.file import BLOCK
from vocoder.pitch import voiced_median

VOICING_WEIGHT = 0.3  # of a voicing error, against an error of log F0
LOW, HIGH = 50.0, 600.0  # Hz, range of the codes per frame
LEVELS = 254  # codes in that range; 0 is unvoiced
RUN_RANGE = 0.7  # of log F0 around the median that the code of a run covers, an octave either way


def f0_blocks(f0: Tensor) -> Tensor:
    """Returns blocks (ceil(frames / 4), 8) of an F0 track (frames,): relative log F0, then weighted voicing."""
    log_f0 = _relative_log_f0(f0)
    padding = -len(f0) % BLOCK
    log_f0, voiced = (
        torch.cat([row, row[-1:].expand(padding)]).view(-1, BLOCK) for row in (log_f0, (f0 > 0).to(log_f0))
    )
    return torch.cat([log_f0 * (voiced.sum(1, keepdim=True) > 0), VOICING_WEIGHT * voiced], 1)


def encode_blocks(f0: Tensor, codebook: KMeans) -> Tensor:
    """Returns the code of each block of an F0 track."""
    return codebook(f0_blocks(f0))


def decode_blocks(codes: Tensor, codebook: KMeans, median_f0: float, frames: int) -> Tensor:
    """Returns the F0 track (frames,) of block codes."""
    centres = codebook.centres[codes]
    log_f0, voiced = centres[:, :BLOCK].flatten(), centres[:, BLOCK:].flatten() > VOICING_WEIGHT / 2
    return (median_f0 * log_f0.exp() * voiced)[:frames]


def encode_frames(f0: Tensor) -> Tensor:
    """Returns an 8-bit code for each frame of an F0 track."""
    step = math.log(HIGH / LOW) / LEVELS
    code = ((f0.clamp(LOW, HIGH) / LOW).log() / step).round().long() + 1
    return torch.where(f0 > 0, code, 0)


def decode_frames(codes: Tensor) -> Tensor:
    """Returns the F0 track of 8-bit codes."""
    step = math.log(HIGH / LOW) / LEVELS
    return torch.where(codes > 0, LOW * ((codes - 1) * step).exp(), 0.0)


def encode_runs(f0: Tensor, lengths: Tensor, levels: int) -> Tensor:
    """Returns a code for each run of an F0 track: its quantised mean, or 0 where most of it is unvoiced."""
    log_f0 = _relative_log_f0(f0)
    means, voiced = (run_means(row, lengths) for row in (log_f0, (f0 > 0).to(log_f0)))
    code = 1 + ((means / RUN_RANGE).clamp(-1, 1) * (levels - 2) / 2 + (levels - 2) / 2).round().long()
    return torch.where(voiced > 0.5, code, 0)


def decode_runs(codes: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Returns relative log F0 and voicing of run codes, (runs,) each."""
    return ((codes - 1) * 2 / (levels - 2) - 1) * RUN_RANGE * (codes > 0), codes > 0


def run_means(values: Tensor, lengths: Tensor) -> Tensor:
    """Returns the mean of each run's frames (runs,)."""
    total = values.new_zeros(len(lengths)).index_add(0, torch.arange(len(lengths)).repeat_interleave(lengths), values)
    return total / lengths


def _relative_log_f0(f0: Tensor) -> Tensor:
    """Returns log F0 relative to the median, interpolated where unvoiced."""
    return interpolated_log_f0(f0) - math.log(voiced_median(f0))
