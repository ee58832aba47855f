"""What every matcher is: a clip's frames in, piece by piece, and a target's frames out.

What is compared and what is given need not be the same: a pool holds for each frame the one that the vocoder reads.

    source --> query frames --> compared with pool.frames --> pool.synthesis of what is near --> vocoder
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ssl_vc.match.ivf import ApproximateSearch
from ssl_vc.match.search import Neighbours, Search


class Match(NamedTuple):
    """What a matcher gives for some frames of a source.

    Attributes:
        frames: what the vocoder reads (frames, dim).
        distance: 1 - cosine of each frame to the nearest one of the pool (frames,); NaN where none was looked for.
    """

    frames: Tensor
    distance: Tensor


class Pool:
    """A target's frames, on one device, ready to be searched.

    Args:
        frames: what queries are compared with (frames, dim).
        synthesis: what is given in their place (frames, other dim); the frames themselves if None.
        clips: how many frames each clip has, in order; one clip if None.
        approximate: search with an index that finds nearly all neighbours; for hours of frames.
    """

    def __init__(
        self,
        frames: Tensor,
        synthesis: Tensor | None = None,
        clips: Iterable[int] | None = None,
        *,
        approximate: bool = False,
    ) -> None:
        self._approximate = approximate
        self.frames = frames
        self.synthesis = frames if synthesis is None else synthesis
        lengths = torch.tensor([len(frames)] if clips is None else list(clips))
        if len(self.synthesis) != len(frames) or int(lengths.sum()) != len(frames):
            raise ValueError(
                f"a pool of {len(frames)} frames has {len(self.synthesis)} for synthesis, and its clips "
                f"{int(lengths.sum())}; the three must agree."
            )
        self.goes_on = torch.ones(len(frames), dtype=torch.bool)
        """Whether the next frame is of the same clip (frames,)."""
        self.goes_on[lengths[lengths > 0].cumsum(0) - 1] = False
        self.goes_on = self.goes_on.to(frames.device)

    @cached_property
    def search(self) -> Search | ApproximateSearch:
        """What finds the nearest frames."""
        return ApproximateSearch(self.frames) if self._approximate else Search(self.frames)

    def nearest(self, query: Tensor, k: int) -> Neighbours:
        """Find the k nearest frames of each query (queries, dim); all of them where there are fewer than k."""
        return self.search(query, k)

    @property
    def seconds(self) -> float:
        """How long what it holds lasts."""
        return len(self.frames) / 50

    @property
    def same_space(self) -> bool:
        """Whether what is given is what is compared."""
        return self.synthesis is self.frames


class Matcher(Protocol):
    """Anything that turns a source's frames into a target's."""

    def __call__(self, pieces: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        """Give the target's frames for a clip's, in order, as many, in pieces of any size.

        Args:
            pieces: the clip's frames in order, float32 (some frames, dim) each, on the pool's device.
            pool: the target.
        """


def blend(selected: Tensor, source: Tensor | None, share: float | Tensor) -> Tensor:
    """Give share * selected + (1 - share) * source; with 0 and 1, one of the two bit for bit."""
    if isinstance(share, Tensor):
        assert source is not None
        return source.lerp(selected, share)
    if share == 1:
        return selected
    assert source is not None
    return source if share == 0 else source + share * (selected - source)


class Jump:
    """Measures how little each frame has to do with the one before, over a clip that comes in pieces.

    The root mean square step from frame to frame, over that of frames in random order: 0 where nothing changes, 1 for
    noise.
    """

    def __init__(self) -> None:
        self._last: Tensor | None = None
        self._frames, self._steps, self._squares, self._sum = 0, 0.0, 0.0, torch.zeros(())

    def add(self, frames: Tensor) -> None:
        """Take the next frames (frames, dim)."""
        if not len(frames):
            return
        exact = frames.to("cpu", torch.float64)  # not every accelerator has float64
        joined = exact if self._last is None else torch.cat([self._last, exact])
        self._steps += float(joined.diff(dim=0).square().sum())
        self._squares += float(exact.square().sum())
        self._sum = self._sum.to(exact) + exact.sum(0)
        self._frames += len(frames)
        self._last = exact[-1:]

    @property
    def value(self) -> float:
        """The measure so far; 0 of fewer than three frames."""
        count = self._frames
        if count < 3:
            return 0.0
        spread = (self._squares - float(self._sum.square().sum()) / count) / (count - 1)
        return (self._steps / (count - 1) / (2 * spread)) ** 0.5 if spread > 0 else 0.0


def jump(frames: Tensor) -> float:
    """Give the `Jump` of a whole clip (frames, dim)."""
    measure = Jump()
    measure.add(frames)
    return measure.value
