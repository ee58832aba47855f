"""How well frames serve kNN conversion, judged without a vocoder.

A clip's frames are replaced by their nearest ones in a pool, as kNN-VC does it (Baas et al., 2023, arXiv 2305.18975):
once from what else the same speaker said, once from what another one said. What should be kept is what is said: the
neighbours' commonest phone should be the frame's own. From the own voice the sound should be kept as well.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.match.knn import average
from ssl_vc.match.protocol import Pool


class Spoken(NamedTuple):
    """A clip: its frames (frames, dim), their phones (frames,) and their log-mel energies in dB (frames, bands)."""

    speaker: str
    frames: Tensor
    phones: Tensor
    mel: Tensor


class SelfConversion(NamedTuple):
    """Means over clips; None where no clip can tell.

    Attributes:
        kept: share of frames whose phone is kept from the same speaker's other clips.
        kept_across: the same from the clips of another speaker.
        distance: mean difference in dB of the log-mel energies to those from the same speaker's other clips.
        clips: how many clips `kept` is of.
        clips_across: how many `kept_across` is of.
    """

    kept: float | None
    kept_across: float | None
    distance: float | None
    clips: int
    clips_across: int


@torch.no_grad()
def self_conversion(clips: Sequence[Spoken], k: int = 4, silence: int = 0) -> SelfConversion:
    """Convert every clip to its own speaker and to the next one in the order of their names.

    Args:
        clips: of several speakers, frames of one make.
        k: how many neighbours.
        silence: the phone whose frames do not count: silence is easily kept.
    """
    speakers = sorted({clip.speaker for clip in clips})
    said = {speaker: [clip for clip in clips if clip.speaker == speaker] for speaker in speakers}
    same, across, distances = [], [], []
    for place, speaker in enumerate(speakers):
        other = speakers[(place + 1) % len(speakers)]
        pool = _pool(said[other]) if other != speaker else None
        for clip in said[speaker]:
            speech = clip.phones != silence
            if not speech.any():
                continue
            if pool is not None:
                found = pool.nearest(clip.frames[speech], k).index
                across.append(_kept(clip.phones[speech], _phones(said[other])[found]))
            rest = [each for each in said[speaker] if each is not clip]
            if rest:
                found = _pool(rest).nearest(clip.frames, k).index
                same.append(_kept(clip.phones[speech], _phones(rest)[found[speech]]))
                mel = average(torch.cat([each.mel for each in rest]), found)
                distances.append(float((clip.mel - mel).abs().mean()))
    return SelfConversion(_mean(same), _mean(across), _mean(distances), len(same), len(across))


def commonest(phones: Tensor) -> Tensor:
    """Give the commonest of each frame's neighbours' phones (frames, k), nearest first; of equals the nearest one's."""
    votes = (phones[:, :, None] == phones[:, None, :]).sum(2)
    rank = torch.arange(phones.shape[1], device=phones.device)
    return phones.gather(1, (votes * len(rank) - rank).argmax(1, keepdim=True))[:, 0]


def _kept(phones: Tensor, found: Tensor) -> float:
    return float((commonest(found) == phones).double().mean())


def _pool(clips: Sequence[Spoken]) -> Pool:
    return Pool(torch.cat([clip.frames for clip in clips]), clips=[len(clip.frames) for clip in clips])


def _phones(clips: Sequence[Spoken]) -> Tensor:
    return torch.cat([clip.phones for clip in clips])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
