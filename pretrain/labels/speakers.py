"""Speaker labels, the same in every frame of a clip: for adversarial training (`weight` below 0)."""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from pretrain.data.manifest import Clip
from pretrain.labels.align import UNLABELLED


class SpeakerLabels:
    """Speaker ids of some clips; all other clips are unlabelled.

    Attributes:
        clusters: number of speakers.
        fingerprint: hash of their names.
    """

    def __init__(self, clips: Iterable[Clip]) -> None:
        self._speakers = {clip.key: clip.speaker for clip in clips if clip.speaker}
        names = sorted(set(self._speakers.values()))
        if len(names) < 2:
            raise ValueError(f"the clips are of {len(names)} known speakers; at least two are needed.")
        self._ids = {name: number for number, name in enumerate(names)}
        self.clusters = len(names)
        self.fingerprint = hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest()

    def __contains__(self, key: str) -> bool:
        return True

    def __getitem__(self, key: str) -> npt.NDArray[np.int64]:
        """Return the speaker id, repeated for more frames than any clip has."""
        if key not in self._speakers:
            return UNLABELLED
        return np.broadcast_to(np.int64(self._ids[self._speakers[key]]), UNLABELLED.shape)
