"""Long clips in bounded memory.

Frames are vocoded in overlapping windows, and each window yields the waveform of its core:

    window 1   |======= core 1 =======|-context-|
    window 2              |-context-|======= core 2 =======|-context-|
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class Streaming:
    """Mixin for vocoders that work window by window."""

    dim: int

    @torch.no_grad()
    def stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Vocode a clip in bounded memory; how it is chunked makes no difference to the output.

        Args:
            chunks: the clip's frames in order, (n, dim) each; one tensor counts as one chunk.

        Yields:
            waveform (samples,), in total exactly frames * hop_length samples.
        """
        yield from self._vocode(self._checked(chunks))

    def synthesize(self, frames: Tensor) -> Tensor:
        """Returns the waveform (frames * hop_length,) of one clip (frames, dim) of any length."""
        if not len(frames):
            raise ValueError("the clip has no frames; at least one is needed.")
        return torch.cat(list(self.stream(frames)))

    def _vocode(self, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yields the waveform of each window's core."""
        raise NotImplementedError

    def _checked(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        for chunk in [chunks] if isinstance(chunks, Tensor) else chunks:
            if chunk.ndim != 2 or chunk.shape[1] != self.dim:
                raise ValueError(f"the frames have shape {tuple(chunk.shape)}; a clip's are (frames, {self.dim}).")
            if len(chunk):
                yield chunk


def windows(chunks: Iterable[Tensor], core: int, context: int) -> Iterator[tuple[Tensor, int, int]]:
    """Yields windows of a clip's frames, and where the core of each starts and stops."""
    pending, start = None, 0
    for chunk in chunks:
        for part in chunk.split(core):
            pending = part if pending is None else torch.cat([pending.to(part.device), part])
            if len(pending) >= start + core + context:
                yield pending[: start + core + context], start, start + core
                drop = max(start + core - context, 0)
                pending, start = pending[drop:], start + core - drop
    if pending is not None and len(pending) > start:
        yield pending, start, len(pending)
