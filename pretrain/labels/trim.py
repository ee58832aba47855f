"""Trimming of the silence before the first phone and after the last one.

audio    |----sil----|=== phones ===|--sil--|
kept             |===================|             with a fifth of a second of silence on both sides
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pretrain.data.batch import LabelSet
from pretrain.data.manifest import Clip, Samples
from pretrain.data.pack import ClipAudio
from pretrain.encoder.framing import HOP, SAMPLE_RATE, num_samples
from pretrain.labels.align import PhoneAlignments

MARGIN = 10  # frames of silence to keep on both sides

FrameRange = tuple[int, int]  # start, stop


def trim_silence(
    audio: ClipAudio, labels: Sequence[LabelSet], phones: PhoneAlignments
) -> tuple[ClipAudio, list[LabelSet]]:
    """Trim audio and labels to the speech; clips without an alignment stay untrimmed."""
    ranges = {clip.key: speech_range(phones[clip.key]) for clip in audio.clips if clip.key in phones}
    return _TrimmedAudio(audio, ranges), [_TrimmedLabels(of, ranges) for of in labels]


def speech_range(phones: npt.NDArray[np.int64]) -> FrameRange:
    """Return the frames from the first to the last phone, with margins; all frames if there is no speech."""
    speech = np.flatnonzero(phones)
    if not len(speech):
        return 0, len(phones)
    return max(int(speech[0]) - MARGIN, 0), min(int(speech[-1]) + 1 + MARGIN, len(phones))


class _TrimmedAudio:
    def __init__(self, audio: ClipAudio, ranges: dict[str, FrameRange]) -> None:
        self.audio, self.ranges = audio, ranges
        self.clips = [self._shortened(clip) for clip in audio.clips]

    def _shortened(self, clip: Clip) -> Clip:
        start, stop = self.ranges.get(clip.key, (0, 0))
        return clip._replace(seconds=num_samples(stop - start) / SAMPLE_RATE) if stop else clip

    def read(self, index: int) -> Samples:
        wav, (start, stop) = self.audio.read(index), self.ranges.get(self.clips[index].key, (0, 0))
        return wav[start * HOP : num_samples(stop)] if stop else wav


class _TrimmedLabels:
    def __init__(self, labels: LabelSet, ranges: dict[str, FrameRange]) -> None:
        self.labels, self.ranges = labels, ranges
        self.clusters, self.fingerprint = labels.clusters, labels.fingerprint

    def __contains__(self, key: str) -> bool:
        return key in self.labels

    def __getitem__(self, key: str) -> npt.NDArray[np.int64]:
        start, stop = self.ranges.get(key, (0, None))
        return self.labels[key][start:stop]
