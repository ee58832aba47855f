"""Columns of a vocoder's frame: F0, voicing, loudness, envelope, content."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from vocoder.world import World

ENVELOPE_GAIN = 1.2  # for averaged WORLD envelopes; 1.15 to 1.3 are as intelligible

FeatureSpec: TypeAlias = Mapping[str, Any]
"""Features by name (`kind`) and everything that determines them; files call it `made_by` or `reads`."""


class FrameLayout(NamedTuple):
    """Columns of a frame.

    Attributes:
        pitch: log F0, interpolated through unvoiced frames.
        voicing: 1 where voiced.
        loudness: log power.
        envelope: shape of the spectrum.
        content: further columns that a conversion takes from the source.
        envelope_gain: factor by which an averaged envelope is moved away from the target's mean.
    """

    pitch: slice
    voicing: slice
    loudness: slice
    envelope: slice
    content: slice = slice(0, 0)
    envelope_gain: float = 1.0


def world_layout(world: World) -> FrameLayout:
    """Return the layout of WORLD frames."""
    return FrameLayout(world.pitch, world.voicing, world.loudness, world.envelope, envelope_gain=ENVELOPE_GAIN)
