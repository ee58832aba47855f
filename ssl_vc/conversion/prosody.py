"""Melody: what of the source goes along with the target's frames, for vocoders that take pitch.

What is near in SSL frames need not be near in pitch or loudness, so a mean of neighbours has no melody and stumbles.
The source's own is kept, and its pitch moved to where the target's voice lies. And a mean of spectra is flatter than
each of them, its vowels alike; so it is moved away from the mean of all the target's (as Toda, Black and Tokuda, 2007,
"Voice conversion based on maximum-likelihood estimation of spectral parameter trajectory", mind the global variance).
"""

import math

import torch
from torch import Tensor

from ssl_vc.features.layout import Parts
from ssl_vc.voice.voice import PitchRange

REMEMBERED = 180_000  # voiced frames, an hour of them, whose median is what is moved


class Melody:
    """The source's melody for one conversion; `heard` tells it of the source, whole or bit by bit.

    Args:
        parts: of the frames.
        target: the voice's F0.
        theirs: all of the voice's frames (frames, dim).
        pitch: `keep` or `match`: moved to the target's median; a number: the source's own, so many semitones higher.
    """

    def __init__(self, parts: Parts, target: PitchRange | None, theirs: Tensor, pitch: str | float) -> None:
        self.parts = parts
        self.middle = theirs[:, parts.envelope].float().mean(0)
        self.target = target if isinstance(pitch, str) else None
        self.lifted = 0.0 if isinstance(pitch, str) else pitch
        self.moved = 0.0
        self._voiced = theirs.new_empty(0)

    def heard(self, own: Tensor) -> None:
        """Take account of some of the source's frames (frames, dim)."""
        if self.target is not None:
            voiced = own[:, self.parts.voicing] >= 0.5
            self._voiced = torch.cat([self._voiced.to(own), own[:, self.parts.pitch][voiced]])[-REMEMBERED:]
            if len(self._voiced):
                self.moved = math.log(self.target.median) - float(self._voiced.median())

    def sung(self, selected: Tensor, own: Tensor) -> Tensor:
        """Give the selected frames, sharper, with the source's voicing and loudness, and its pitch where theirs is."""
        parts, sung = self.parts, selected.clone()
        sung[:, parts.envelope] = self.middle.lerp(selected[:, parts.envelope], parts.sharper)
        for columns in (parts.voicing, parts.loudness, parts.content):
            sung[:, columns] = own[:, columns]
        sung[:, parts.pitch] = own[:, parts.pitch] + self.moved
        return sung

    def lift(self, frames: Tensor) -> Tensor:
        """Give frames so many semitones higher as were asked for."""
        if not self.lifted:
            return frames
        lifted = frames.clone()
        lifted[:, self.parts.pitch] += self.lifted * math.log(2) / 12
        return lifted
