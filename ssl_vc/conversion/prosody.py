"""Prosody transfer: source prosody on matched frames, for vocoders whose frames have pitch columns.

Neighbours in SSL space differ in pitch and loudness, so an average of them has no melody and stumbles. The source's
prosody is kept, with its F0 shifted to the target's range. Averaging also flattens spectra; so the envelope is moved
away from the mean of all the target's frames (compare global variance: Toda, Black and Tokuda, 2007, "Voice conversion
based on maximum-likelihood estimation of spectral parameter trajectory").
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ssl_vc.features.layout import FrameLayout
from ssl_vc.match.protocol import Pool
from ssl_vc.voice.voice import PitchRange, Voice

REMEMBERED = 180_000  # voiced frames, an hour, over which the source's median F0 is taken


def transfer_for(
    layout: FrameLayout | None, voice: Voice, pool: Pool, pitch: str | float, source: Iterable[Tensor] = ()
) -> "ProsodyTransfer | None":
    """Return the prosody transfer to a voice, of a source's frames if it is known as a whole; None without a layout."""
    if layout is None:
        return None
    prosody = ProsodyTransfer(layout, voice.pitch, pool.synthesis, pitch)
    for chunk in source:
        prosody.observe(chunk)
    return prosody


class ProsodyTransfer:
    """The prosody of one source for one target; `observe` must see the source first, whole or in chunks.

    Args:
        layout: of the frames.
        target: F0 of the voice.
        target_frames: all frames of the voice (frames, dim).
        pitch: `match`: shift F0 to the target's median; a number: the source's own F0, so many semitones up.
    """

    def __init__(
        self, layout: FrameLayout, target: PitchRange | None, target_frames: Tensor, pitch: str | float
    ) -> None:
        self.layout = layout
        self.mean_envelope = target_frames[:, layout.envelope].float().mean(0)
        self.target = target if isinstance(pitch, str) else None
        self.semitones = 0.0 if isinstance(pitch, str) else pitch
        self.offset = 0.0  # from the source's median log F0 to the target's
        self._voiced = target_frames.new_empty(0)

    def observe(self, source: Tensor) -> None:
        """Update the median F0 with some of the source's frames (frames, dim)."""
        if self.target is not None:
            voiced = source[:, self.layout.voicing] >= 0.5
            self._voiced = torch.cat([self._voiced.to(source), source[:, self.layout.pitch][voiced]])[-REMEMBERED:]
            if len(self._voiced):
                self.offset = math.log(self.target.median) - float(self._voiced.median())

    def apply(self, matched: Tensor, source: Tensor) -> Tensor:
        """Return matched frames with the source's prosody and content, and with a sharpened envelope."""
        layout, frames = self.layout, matched.clone()
        frames[:, layout.envelope] = self.mean_envelope.lerp(matched[:, layout.envelope], layout.envelope_gain)
        for columns in (layout.voicing, layout.loudness, layout.content):
            frames[:, columns] = source[:, columns]
        frames[:, layout.pitch] = source[:, layout.pitch] + self.offset
        return frames

    def transpose(self, frames: Tensor) -> Tensor:
        """Return the frames transposed by the semitones of `pitch`."""
        if not self.semitones:
            return frames
        transposed = frames.clone()
        transposed[:, self.layout.pitch] += self.semitones * math.log(2) / 12
        return transposed
