"""Trimming: clips without the silence before the first phone and after the last one, which teaches nothing.

sound    |----sil----|=== phones ===|--sil--|
learned          |===================|             a fifth of a second of it stays on both sides
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pretrain.data.batch import LabelSet
from pretrain.data.manifest import SAMPLE_RATE, Clip, Samples
from pretrain.data.pack import Sounds
from pretrain.encoder.frontend import FIELD, HOP
from pretrain.labels.align import Phones

MARGIN = 10  # frames of silence that stay

Span = tuple[int, int]  # first frame, and the one after the last


def trimmed(sounds: Sounds, labels: Sequence[LabelSet], phones: Phones) -> tuple[Sounds, list[LabelSet]]:
    """Give the sounds and their labels without the silence at both ends; clips without an alignment stay whole."""
    spans = {clip.key: spoken(phones[clip.key]) for clip in sounds.clips if clip.key in phones}
    return _Trimmed(sounds, spans), [_TrimmedLabels(of, spans) for of in labels]


def spoken(phones: npt.NDArray[np.int64]) -> Span:
    """Give where speech is among a clip's phones (frames,), 0 being silence; all of a clip without speech."""
    where = np.flatnonzero(phones)
    if not len(where):
        return 0, len(phones)
    return max(int(where[0]) - MARGIN, 0), min(int(where[-1]) + 1 + MARGIN, len(phones))


class _Trimmed:
    def __init__(self, sounds: Sounds, spans: dict[str, Span]) -> None:
        self.sounds, self.spans = sounds, spans
        self.clips = [self._shorter(clip) for clip in sounds.clips]

    def _shorter(self, clip: Clip) -> Clip:
        start, stop = self.spans.get(clip.key, (0, 0))
        return clip._replace(seconds=((stop - start - 1) * HOP + FIELD) / SAMPLE_RATE) if stop else clip

    def read(self, index: int) -> Samples:
        wav, (start, stop) = self.sounds.read(index), self.spans.get(self.clips[index].key, (0, 0))
        return wav[start * HOP : (stop - 1) * HOP + FIELD] if stop else wav


class _TrimmedLabels:
    def __init__(self, labels: LabelSet, spans: dict[str, Span]) -> None:
        self.labels, self.spans = labels, spans
        self.clusters, self.made_of = labels.clusters, labels.made_of

    def __contains__(self, key: str) -> bool:
        return key in self.labels

    def __getitem__(self, key: str) -> npt.NDArray[np.int64]:
        start, stop = self.spans.get(key, (0, None))
        return self.labels[key][start:stop]
