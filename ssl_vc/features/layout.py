"""Where in a vocoder's frame is what: pitch, voicing, loudness, envelope, content."""

from typing import NamedTuple

from vocoder.world import World

SHARPER = 1.2  # times as far from the target's mean spectrum; 1.15 to 1.3 are understood as well


class Parts(NamedTuple):
    """Where in a frame is what, as columns.

    Attributes:
        pitch: the logarithm of F0, which goes on through what is unvoiced.
        voicing: whether it is voiced.
        loudness: how loud it is.
        envelope: the spectrum's shape.
        content: what else is the source's in a conversion.
        sharper: how much farther from its mean the envelope of a mean of neighbours is moved.
    """

    pitch: slice
    voicing: slice
    loudness: slice
    envelope: slice
    content: slice = slice(0, 0)
    sharper: float = 1.0


def world_parts(world: World) -> Parts:
    """Tell where the parts of WORLD's frames are."""
    return Parts(world.pitch, world.voicing, world.loudness, world.envelope, sharper=SHARPER)
