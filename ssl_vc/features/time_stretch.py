"""Frames in time: a clip's pieces made longer or shorter, and cut anew."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def stretch(pieces: Iterable[Tensor], frames: int, wanted: int) -> Iterator[Tensor]:
    """Interpolate a clip of so many `frames` to the `wanted` number, linearly and in pieces; as it is if they agree.

    The middle of new frame j lies where (j + 1/2) / wanted of the clip has passed, as it does in
    `torch.nn.functional.interpolate`.

    Args:
        pieces: the clip's frames in order, (some frames, dim) each.
        frames: how many they are together.
        wanted: how many to give.
    """
    if frames == wanted:
        yield from pieces
        return
    held, first, done = None, 0, 0  # `held` begins with frame number `first` of the clip
    for piece in pieces:
        held = piece if held is None else torch.cat([held, piece])
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
    """Cut a clip's pieces anew.

    Args:
        pieces: the clip's frames in order, (some frames, dim) each.
    """

    def __init__(self, pieces: Iterable[Tensor]) -> None:
        self._pieces = iter(pieces)
        self._held: list[Tensor] = []

    def take(self, count: int) -> Tensor:
        """Give the next `count` frames; fewer only where the clip ends."""
        missing = count - sum(map(len, self._held))
        while missing > 0 and (piece := next(self._pieces, None)) is not None:
            self._held.append(piece)
            missing -= len(piece)
        whole = torch.cat(self._held)
        self._held = [whole[count:]]
        return whole[:count]
