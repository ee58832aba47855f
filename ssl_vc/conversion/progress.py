"""Progress of a conversion."""

from collections.abc import Callable


class Progress:
    """Reports the share of a conversion that is done, from 0 to 1; analysis and synthesis count half each.

    Args:
        report: called with the share; None reports nothing.
        source_frames: of the source.
        frames: of the output.
    """

    def __init__(self, report: Callable[[float], None] | None, source_frames: int, frames: int) -> None:
        self._report, self._source_frames, self._frames = report, source_frames, frames
        self._analyzed = self._generated = 0

    def analyzed(self, frames: int) -> None:
        """Count frames of the source."""
        self._analyzed += frames
        self._update()

    def generated(self, frames: int) -> None:
        """Count frames of the output, of which the first comes when all of the source's prosody is known."""
        self._analyzed = self._source_frames
        self._generated += frames
        self._update()

    def _update(self) -> None:
        if self._report is not None:
            done = self._analyzed / self._source_frames + self._generated / self._frames
            self._report(min(done / 2, 1.0))
