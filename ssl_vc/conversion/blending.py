"""Flow: matched frames on their way to the vocoder, what is counted as they go by, and what comes of it."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.conversion.prosody import Melody
from ssl_vc.features.time_stretch import Regroup
from ssl_vc.match.protocol import Jump, Match, blend
from ssl_vc.options import check_range


class Conversion(NamedTuple):
    """A converted sound, and how it came about.

    Attributes:
        wav: (samples,).
        sample_rate: of it.
        matcher: the matcher's name.
        why: a sentence on the choice of the matcher.
        distance: mean of 1 - cosine from the source's frames to the nearest of the voice; None if not looked for.
        coverage: share of the source's frames that are farther from the voice than its own are from each other.
        jump: how little a frame that the vocoder got has to do with the one before, see `ssl_vc.match.protocol.Jump`.
        source_jump: the same of the source's frames, where the vocoder reads the frames that are matched.
        warnings: what a user should know, a sentence each.
    """

    wav: Tensor
    sample_rate: int
    matcher: str
    why: str
    distance: float | None
    coverage: float | None
    jump: float
    source_jump: float | None
    warnings: tuple[str, ...]


class Tally:
    """What is counted while frames go by."""

    def __init__(self) -> None:
        self.before, self.after = Jump(), Jump()
        self.distances: list[Tensor] = []

    def heard(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pass on the source's frames."""
        for piece in pieces:
            self.before.add(piece)
            yield piece

    def given(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pass on what the vocoder gets."""
        for piece in pieces:
            self.after.add(piece)
            yield piece

    @property
    def distance(self) -> Tensor:
        """Of the source's frames to the nearest of the voice, where it was looked for (frames,)."""
        known = torch.cat(self.distances).cpu() if self.distances else torch.empty(0)
        return known[~known.isnan()]


def shares(blend: float | Tensor, heard: int, frames: int) -> float | Tensor:
    """Give the share of matched frames: one for all, or for each of so many frames (frames, 1).

    Args:
        blend: of matched frames, from 0 to 4; or of each frame that was heard (heard,).
        heard: frames of the source.
        frames: as many as those are stretched to.
    """
    if not isinstance(blend, Tensor):
        check_range("blend", blend, 0, 4)
        return float(blend)
    if blend.shape != (heard,) or not bool(((blend >= 0) & (blend <= 4)).all()):
        raise ValueError(f"blend is a tensor {tuple(blend.shape)}; give {heard} numbers from 0 to 4, one a frame.")
    return blend.float()[(torch.arange(frames) * heard / frames).long()][:, None]


def mixed(
    matches: Iterable[Match] | None,
    own: Iterable[Tensor] | None,
    melody: Melody | None,
    share: float | Tensor,
    tally: Tally,
) -> Iterator[Tensor]:
    """Give what the vocoder reads: matched frames with the source's melody, and a share of the source's own."""
    if matches is None:
        assert own is not None
        yield from own if melody is None else map(melody.lift, own)
        return
    source = None if own is None else Regroup(own)
    at = 0
    for match in matches:
        here = share[at : at + len(match.frames)].to(match.frames) if isinstance(share, Tensor) else share
        at += len(match.frames)
        tally.distances.append(match.distance)
        theirs = None if source is None else source.take(len(match.frames))
        frames = match.frames
        if melody is not None and theirs is not None:
            frames = melody.lift(blend(melody.sung(frames, theirs), theirs, here))
        else:
            frames = blend(frames, theirs, here)
        yield frames
