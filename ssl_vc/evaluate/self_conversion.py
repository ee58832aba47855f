"""Suitability of frames for kNN conversion, measured without a vocoder.

A clip's frames are replaced by their nearest neighbours, as in kNN-VC (Baas et al., 2023, arXiv 2305.18975): once in
the same speaker's other clips, once in another speaker's. The content should be preserved: the majority phone of the
neighbours should be that of the frame. Within one speaker the spectrum should be preserved as well.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.match.knn import average
from ssl_vc.match.protocol import Pool


class LabelledClip(NamedTuple):
    """A clip: its frames (frames, dim), their phones (frames,) and their log-mel energies in dB (frames, bands)."""

    speaker: str
    frames: Tensor
    phones: Tensor
    mel: Tensor


class SelfConversion(NamedTuple):
    """Means over clips; None where there are too few.

    Attributes:
        kept: share of frames whose phone is preserved with the same speaker's other clips as pool.
        kept_across: the same with another speaker's clips as pool.
        distance: mean difference in dB of the log-mel energies, with the same speaker's other clips as pool.
        clips: number of clips in `kept`.
        clips_across: number of clips in `kept_across`.
    """

    kept: float | None
    kept_across: float | None
    distance: float | None
    clips: int
    clips_across: int


@torch.no_grad()
def self_conversion(clips: Sequence[LabelledClip], k: int = 4, silence: int = 0) -> SelfConversion:
    """Convert every clip to its own speaker and to the next one in alphabetical order.

    Args:
        clips: of several speakers, all with the same features.
        k: number of neighbours.
        silence: phone whose frames are left out, since silence is easily preserved.
    """
    speakers = sorted({clip.speaker for clip in clips})
    by_speaker = {speaker: [clip for clip in clips if clip.speaker == speaker] for speaker in speakers}
    same, across, distances = [], [], []
    for place, speaker in enumerate(speakers):
        other = speakers[(place + 1) % len(speakers)]
        pool = _pool(by_speaker[other]) if other != speaker else None
        for clip in by_speaker[speaker]:
            speech = clip.phones != silence
            if not speech.any():
                continue
            if pool is not None:
                found = pool.nearest(clip.frames[speech], k).index
                across.append(_kept(clip.phones[speech], _phones(by_speaker[other])[found]))
            rest = [each for each in by_speaker[speaker] if each is not clip]
            if rest:
                found = _pool(rest).nearest(clip.frames, k).index
                same.append(_kept(clip.phones[speech], _phones(rest)[found[speech]]))
                mel = average(torch.cat([each.mel for each in rest]), found)
                distances.append(float((clip.mel - mel).abs().mean()))
    return SelfConversion(_mean(same), _mean(across), _mean(distances), len(same), len(across))


def majority_phone(phones: Tensor) -> Tensor:
    """Returns the majority (frames,) of the neighbours' phones (frames, k), nearest first; ties go to the nearest."""
    votes = (phones[:, :, None] == phones[:, None, :]).sum(2)
    rank = torch.arange(phones.shape[1], device=phones.device)
    return phones.gather(1, (votes * len(rank) - rank).argmax(1, keepdim=True))[:, 0]


def _kept(phones: Tensor, found: Tensor) -> float:
    return float((majority_phone(found) == phones).double().mean())


def _pool(clips: Sequence[LabelledClip]) -> Pool:
    return Pool(torch.cat([clip.frames for clip in clips]), clips=[len(clip.frames) for clip in clips])


def _phones(clips: Sequence[LabelledClip]) -> Tensor:
    return torch.cat([clip.phones for clip in clips])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
