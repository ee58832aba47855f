"""The protocol of matchers: a clip's frames in, chunk by chunk, and a target's frames out.

Matching and vocoding may use different features: a pool pairs each frame with the one that the vocoder reads.

    source --> query frames --> neighbours in pool.frames --> their pool.synthesis --> vocoder
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ssl_vc.match.ivf import ApproximateSearch
from ssl_vc.match.search import Neighbours, Search


class Match(NamedTuple):
    """A matcher's output for some frames of a source.

    Attributes:
        frames: for the vocoder (frames, dim).
        distance: cosine distance to the nearest neighbour (frames,); NaN where none was searched.
    """

    frames: Tensor
    distance: Tensor


class Pool:
    """A target's frames, the matching set, on one device.

    Args:
        frames: that queries are compared with (frames, dim).
        synthesis: that the vocoder reads in their place (frames, other dim); the frames themselves if None.
        clips: number of frames of each clip, in order; one clip if None.
        approximate: search by an index that finds nearly all neighbours; for hours of frames.
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
        self.has_successor = torch.ones(len(frames), dtype=torch.bool)
        """Whether the next frame belongs to the same clip (frames,)."""
        self.has_successor[lengths[lengths > 0].cumsum(0) - 1] = False
        self.has_successor = self.has_successor.to(frames.device)

    @cached_property
    def search(self) -> Search | ApproximateSearch:
        """The search over the frames, built on first use."""
        return ApproximateSearch(self.frames) if self._approximate else Search(self.frames)

    def nearest(self, query: Tensor, k: int) -> Neighbours:
        """Return the k nearest neighbours of each query (queries, dim); all frames of a smaller pool."""
        return self.search(query, k)

    @property
    def seconds(self) -> float:
        """Duration of its speech."""
        return len(self.frames) / 50

    @property
    def same_space(self) -> bool:
        """Whether the vocoder reads the frames that are matched."""
        return self.synthesis is self.frames


class Matcher(Protocol):
    """Anything that maps a source's frames to a target's."""

    def __call__(self, chunks: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        """Yield one target frame for each frame of a clip, in order, in chunks of any size.

        Args:
            chunks: the clip's frames in order, float32 (frames, dim) each, on the pool's device.
            pool: the target.
        """


def blend(selected: Tensor, source: Tensor | None, share: float | Tensor) -> Tensor:
    """Return share * selected + (1 - share) * source; for 0 and 1, one of the two bit for bit."""
    if isinstance(share, Tensor):
        assert source is not None
        return source.lerp(selected, share)
    if share == 1:
        return selected
    assert source is not None
    return source if share == 0 else source + share * (selected - source)


class Jump:
    """Measure the discontinuity of a clip that comes in chunks.

    The root mean square step from frame to frame, relative to that of frames in random order: 0 for constant frames, 1
    for white noise.
    """

    def __init__(self) -> None:
        self._last: Tensor | None = None
        self._frames, self._steps, self._squares, self._sum = 0, 0.0, 0.0, torch.zeros(())

    def add(self, frames: Tensor) -> None:
        """Add the next frames (frames, dim)."""
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
        """The measure so far; 0 for fewer than three frames."""
        count = self._frames
        if count < 3:
            return 0.0
        spread = (self._squares - float(self._sum.square().sum()) / count) / (count - 1)
        return (self._steps / (count - 1) / (2 * spread)) ** 0.5 if spread > 0 else 0.0


def jump(frames: Tensor) -> float:
    """Return the `Jump` of a whole clip (frames, dim)."""
    measure = Jump()
    measure.add(frames)
    return measure.value
