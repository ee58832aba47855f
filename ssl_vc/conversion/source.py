"""Encoded: a source that was heard once, for many voices."""

from collections.abc import Callable, Iterable
from typing import Self

import torch
from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.features.analysis import Analysis
from ssl_vc.features.extractor import Extractor

HELD = 600  # seconds of a source whose frames are kept for the next voice; a longer one is heard again for each


class Encoded:
    """A source, and on demand its frames; they are kept, unless it is very long.

    Args:
        wav: the sound (samples,) at 16 kHz.
        extractor: makes the frames that are matched.
        analysis: makes what the vocoder reads.
    """

    def __init__(self, wav: Tensor, extractor: Extractor, analysis: Analysis) -> None:
        self.wav, self._extractor, self._analysis = wav, extractor, analysis
        self.made_by = extractor.spec, dict(analysis.made_by)
        self._kept: dict[str, Tensor] = {}

    @classmethod
    def made(cls, matched: Tensor, spoken: Tensor, extractor: Extractor, analysis: Analysis) -> Self:
        """Give a source whose frames nobody heard: made otherwise, they stand for a sound of their length."""
        encoded = cls(torch.zeros(1).expand(len(matched) * extractor.hop_length), extractor, analysis)
        encoded._kept = {"matched": matched, "spoken": spoken}
        return encoded

    @property
    def frames(self) -> int:
        """How many frames there are: one for every hop, the last one begun too."""
        return -(-len(self.wav) // self._extractor.hop_length)

    def matched(self) -> Iterable[Tensor]:
        """Give the frames that are matched, in pieces."""
        return self._pieces("matched", lambda wav: self._extractor.stream(wav, every_hop=True))

    def spoken(self) -> Iterable[Tensor]:
        """Give what the vocoder reads of the source itself, in pieces."""
        if self._analysis.made_by == self._extractor.spec.facts:
            return self.matched()
        if (around := self._analysis.around) is not None:
            return self._pieces("spoken", lambda wav: around(wav, self.matched()))
        return self._pieces("spoken", self._analysis.frames)

    def _pieces(self, name: str, make: Callable[[Tensor], Iterable[Tensor]]) -> Iterable[Tensor]:
        if name in self._kept:
            return [self._kept[name]]
        slow = name == "spoken" and self._analysis.made_by["kind"] == "world"  # and its frames are small
        if len(self.wav) > HELD * SAMPLE_RATE and not slow:
            return make(self.wav)
        self._kept[name] = torch.cat(list(make(self.wav)))
        return [self._kept[name]]
