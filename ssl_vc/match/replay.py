"""Replay a clip's frames in bounded memory, for matchers that need several passes over the whole clip.

Chunks of any size --> memory, or above 64 MB an unnamed temporary file --> chunks of CHUNK frames, any number of times.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile

import torch
from torch import Tensor

IN_MEMORY = 64 * 2**20  # bytes: five minutes of frames of 1024 dimensions
CHUNK = 500  # frames


class FrameBuffer:
    """A clip's frames in a file; iterating yields them bit for bit in chunks of CHUNK frames."""

    def __init__(self, file: "SpooledTemporaryFile[bytes]", chunks: Iterable[Tensor]) -> None:
        self.file, self.frames, self.dim, self.device = file, 0, 0, torch.device("cpu")
        for chunk in chunks:
            self.frames, self.dim, self.device = self.frames + len(chunk), chunk.shape[1], chunk.device
            self._write(chunk)

    def _write(self, chunk: Tensor) -> None:
        try:
            self.file.write(chunk.cpu().contiguous().numpy().data)
        except OSError as error:
            raise OSError(
                f"the source's frames cannot be buffered: {error.strerror or error}; free space in the folder for "
                "temporary files, or set TMPDIR to another one."
            ) from error

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, self.frames, CHUNK):
            chunk = torch.empty(min(CHUNK, self.frames - start), self.dim)
            self.file.seek(start * self.dim * chunk.element_size())
            self.file.readinto(chunk.numpy().data)
            yield chunk.to(self.device)


@contextmanager
def replay(chunks: Iterable[Tensor]) -> Iterator[FrameBuffer]:
    """Buffer a clip's float32 chunks (frames, dim) while the context lasts, unless they are buffered already."""
    if isinstance(chunks, FrameBuffer):
        yield chunks
        return
    with SpooledTemporaryFile(IN_MEMORY) as file:
        yield FrameBuffer(file, chunks)
