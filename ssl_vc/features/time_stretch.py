"""Frames in time: interpolate a stream of frames to another length, and regroup its chunks."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def stretch(chunks: Iterable[Tensor], frames: int, wanted: int) -> Iterator[Tensor]:
    """Interpolate a clip linearly to the `wanted` number of frames, chunk by chunk; unchanged if that is its own.

    The centre of new frame j is at (j + 1/2) / wanted of the clip, as in `torch.nn.functional.interpolate`.

    Args:
        chunks: the clip's frames in order, (frames, dim) each.
        frames: number of frames of the clip.
        wanted: number of frames to yield.
    """
    if frames == wanted:
        yield from chunks
        return
    held, first, done = None, 0, 0  # `held` starts with frame number `first` of the clip
    for chunk in chunks:
        held = chunk if held is None else torch.cat([held, chunk])
        end = first + len(held)
        at = ((torch.arange(done, wanted, dtype=torch.float64) + 0.5) * (frames / wanted) - 0.5).clamp(0, frames - 1)
        before = at.floor().long()
        ready = int((torch.minimum(before + 1, torch.tensor(frames - 1)) < end).sum())
        if ready:
            before, share = before[:ready], (at - before)[:ready, None].to(held)
            after = (before + 1).clamp(max=frames - 1)
            low, high = (held[(index - first).to(held.device)] for index in (before, after))
            yield low + share * (high - low)
            done += ready
            keep = int(before[-1])
            held, first = held[keep - first :], keep


class Regroup:
    """Regroup a stream of chunks.

    Args:
        chunks: the clip's frames in order, (frames, dim) each.
    """

    def __init__(self, chunks: Iterable[Tensor]) -> None:
        self._chunks = iter(chunks)
        self._held: list[Tensor] = []

    def take(self, count: int) -> Tensor:
        """Return the next `count` frames; fewer only at the clip's end."""
        missing = count - sum(map(len, self._held))
        while missing > 0 and (chunk := next(self._chunks, None)) is not None:
            self._held.append(chunk)
            missing -= len(chunk)
        whole = torch.cat(self._held)
        self._held = [whole[count:]]
        return whole[:count]
