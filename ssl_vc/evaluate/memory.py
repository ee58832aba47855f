"""Memory: WORLD's frames of a sound, made once for all systems that are judged; its pitch tracker is slow."""

import hashlib
import time
from collections.abc import Iterable

import torch
from torch import Tensor

from ssl_vc.features.analysis import Analysis


class Memory:
    """Remembers what analyses gave, and how long they took.

    Attributes:
        saved: seconds that would have been spent by now, had nothing been remembered.
    """

    def __init__(self) -> None:
        self.saved = 0.0
        self._known: dict[tuple[str, bytes], tuple[Tensor, float]] = {}

    def of(self, analysis: Analysis) -> Analysis:
        """Give an analysis that remembers; analyses of equal make share what they know."""
        make = str(sorted(analysis.made_by.items()))

        def frames(wav: Tensor) -> Iterable[Tensor]:
            key = make, hashlib.sha256(wav.numpy(force=True).tobytes()).digest()
            if key in self._known:
                found, seconds = self._known[key]
                self.saved += seconds
            else:
                start = time.perf_counter()
                found = torch.cat(list(analysis.frames(wav)))
                self._known[key] = found, time.perf_counter() - start
            return [found.clone()]

        return analysis._replace(frames=frames)
