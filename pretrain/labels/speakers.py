"""Speakers as labels: who speaks, in every frame of a clip. For an encoder that is to hide it (`weight` below 0)."""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from pretrain.data.manifest import Clip
from pretrain.labels.align import UNKNOWN


class Speakers:
    """The speakers of some clips, by number; of any other clip nobody is asked to guess.

    Attributes:
        clusters: how many there are.
        made_of: a fingerprint of their names.
    """

    def __init__(self, clips: Iterable[Clip]) -> None:
        self._of = {clip.key: clip.speaker for clip in clips if clip.speaker}
        names = sorted(set(self._of.values()))
        if len(names) < 2:
            raise ValueError(f"the clips are of {len(names)} known speakers; two are needed to tell them apart.")
        self._number = {name: number for number, name in enumerate(names)}
        self.clusters = len(names)
        self.made_of = hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest()

    def __contains__(self, key: str) -> bool:
        return True

    def __getitem__(self, key: str) -> npt.NDArray[np.int64]:
        """Give the number of who speaks in each of a clip's frames: more than enough of it."""
        if key not in self._of:
            return UNKNOWN
        return np.broadcast_to(np.int64(self._number[self._of[key]]), UNKNOWN.shape)
