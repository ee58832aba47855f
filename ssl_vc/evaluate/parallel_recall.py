"""Parallel recall: how often the nearest frame in another voice is the true one.

In parallel speech the true frame is known: a sentence in voice A is matched, frame by frame, with the same sentence in
voice B and other speech of B. A frame counts as found if it is off by one at most. As targets have rarely said the
source's sentence, it is also measured without it how often the nearest frame is of the same part of the same phone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

OTHERS = 3000  # frames of other clips in the pool: 60 s
TOLERANCE = 1  # frames


class ParallelClip(NamedTuple):
    """A clip: its sentence and speaker, its frames (frames, dim) and their phone labels (frames,), -1 for unknown."""

    sentence: str
    speaker: str
    frames: Tensor
    phones: Tensor


class ParallelRecall(NamedTuple):
    """Shares of the speech frames of clips that have a parallel one.

    Attributes:
        found: whose nearest frame is the true one.
        same_phone: whose nearest frame, without the sentence itself, has the same phone label.
        clips: number of clips that were matched.
    """

    found: float
    same_phone: float
    clips: int


@torch.no_grad()
def parallel_recall(clips: Sequence[ParallelClip], silence: int = 0) -> ParallelRecall | None:
    """Match every clip with each of its parallel clips; None if there are none, or no other clips of their speakers.

    Args:
        clips: all with the same features.
        silence: phone label whose frames are not queries, since silence is like silence.
    """
    clips = [clip._replace(frames=F.normalize(clip.frames, dim=1)) for clip in clips]
    found, same_phone = [], []
    for target in clips:
        queries = [clip for clip in clips if clip.sentence == target.sentence and clip.speaker != target.speaker]
        others = [clip for clip in clips if clip.speaker == target.speaker and clip.sentence != target.sentence]
        if not queries or not others:
            continue
        frames = torch.cat([clip.frames for clip in others])[:OTHERS]
        phones = torch.cat([clip.phones for clip in others])[:OTHERS]
        for query in queries:
            count = min(len(query.frames), len(target.frames))
            speech = ((query.phones != silence) & (query.phones >= 0))[:count]
            if not speech.any():
                continue
            to_truth = query.frames[:count][speech] @ target.frames.T
            to_others = query.frames[:count][speech] @ frames.T
            (truth, place), (other, at) = to_truth.max(1), to_others.max(1)
            near = (place - torch.arange(count, device=place.device)[speech]).abs() <= TOLERANCE
            found.append(float((near & (truth >= other)).double().mean()))
            same_phone.append(float((phones[at] == query.phones[:count][speech]).double().mean()))
    if not found:
        return None
    return ParallelRecall(sum(found) / len(found), sum(same_phone) / len(found), len(found))
