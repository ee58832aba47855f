"""Hear a clip's frames again: a matcher that must know the whole clip goes over it more than once, in bounded memory.

Pieces of any size --> memory, above 64 MB a file without a name --> pieces of PIECE, as often as one likes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile

import torch
from torch import Tensor

IN_MEMORY = 64 * 2**20  # bytes: five minutes of 1024 numbers a frame
PIECE = 500  # frames


class Kept:
    """A clip's frames in a file; iterating gives them bit for bit, in pieces of PIECE however they were cut before."""

    def __init__(self, file: "SpooledTemporaryFile[bytes]", pieces: Iterable[Tensor]) -> None:
        self.file, self.frames, self.dim, self.device = file, 0, 0, torch.device("cpu")
        for piece in pieces:
            self.frames, self.dim, self.device = self.frames + len(piece), piece.shape[1], piece.device
            self._write(piece)

    def _write(self, piece: Tensor) -> None:
        try:
            self.file.write(piece.cpu().contiguous().numpy().data)
        except OSError as error:
            raise OSError(
                f"the source's frames cannot be kept: {error.strerror or error}; make room in the folder for temporary "
                "files, or set TMPDIR to another one."
            ) from error

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, self.frames, PIECE):
            piece = torch.empty(min(PIECE, self.frames - start), self.dim)
            self.file.seek(start * self.dim * piece.element_size())
            self.file.readinto(piece.numpy().data)
            yield piece.to(self.device)


@contextmanager
def replay(pieces: Iterable[Tensor]) -> Iterator[Kept]:
    """Keep a clip's frames, float32 (some frames, dim) each, while the context lasts, unless they are kept already."""
    if isinstance(pieces, Kept):
        yield pieces
        return
    with SpooledTemporaryFile(IN_MEMORY) as file:
        yield Kept(file, pieces)
