"""People: what a verifier knows of the speakers of an evaluation, and whom it takes a sound for."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.audio import read
from ssl_vc.evaluate.pairs import Pair, Task
from ssl_vc.evaluate.similarity import centre, conversion_eer, of_speakers, to_the_others
from ssl_vc.evaluate.verifier import Verifier
from ssl_vc.files import printable

log = logging.getLogger(__name__)


class Likeness(NamedTuple):
    """Whom a sound is like: its vector (dim,), and the cosines to the target and to the source's speaker."""

    vector: Tensor
    target: float
    source: float | None


class People:
    """The speakers of a task.

    Targets are judged by clips that were held out for it (by their references, where none were), sources by the other
    sources of their speaker (by themselves, where there is none).

    Args:
        task: whose speakers.
        verifier: what hears them.
    """

    def __init__(self, task: Task, verifier: Verifier) -> None:
        self.verifier = verifier
        clips = {target.name: self._heard(target.trials or target.references) for target in task.targets.values()}
        self.clips = [path for vectors in clips.values() for path in vectors]
        self.trials = {name: torch.stack([*vectors.values()]) for name, vectors in clips.items() if vectors}
        self.speakers = {pair.source: pair.speaker for pair in task.pairs}
        self.sources = self._heard(self.speakers)
        self.natural = of_speakers(self.trials)

    def _heard(self, paths: Iterable[Path]) -> dict[Path, Tensor]:
        """Give the vectors of files; those that cannot be heard are named in the log."""
        vectors = {}
        for path in paths:
            try:
                vectors[path] = self.verifier(read(path))
            except (ValueError, OSError) as error:
                log.warning("voices are judged without %s: %s", printable(path), error)
        return vectors

    @property
    def description(self) -> str:
        """Say who judges, and how well it tells natural clips apart."""
        natural = self.natural
        known = [
            f"{name} {value:{digits}}"
            for name, value, digits in (
                ("EER (%)", natural.eer, ".1f"),
                ("same speaker", natural.same, ".3f"),
                ("others", natural.other, ".3f"),
            )
            if value is not None
        ]
        return self.verifier.description + (f"; on the targets' natural clips: {', '.join(known)}" if known else "")

    def compare(self, wav: Tensor, pair: Pair, *, natural: bool = False) -> Likeness:
        """Compare a sound (samples,) at 16 kHz with the pair's speakers.

        Args:
            wav: the sound.
            pair: whose.
            natural: whether it is the source itself, which is not compared with itself.
        """
        if pair.target not in self.trials:
            raise ValueError(f"the verifier could hear no clip of {pair.target}; the warnings say why.")
        heard = self.sources.get(pair.source) if natural else None
        vector, speaker = self.verifier(wav) if heard is None else heard, self.speakers[pair.source]
        same = [path for path, name in self.speakers.items() if speaker and path != pair.source and name == speaker]
        whom = same or ([] if natural else [pair.source])
        known = [self.sources[path] for path in whom if path in self.sources]
        own = float(vector @ centre(torch.stack(known))) if known else None
        return Likeness(vector, float(vector @ centre(self.trials[pair.target])), own)

    def identity(self, vector: Tensor, pair: Pair) -> float | None:
        """Returns the cosine of a copy's vector to that of the very clip it copies."""
        own = self.sources.get(pair.source)
        return None if own is None else float(vector @ own)

    def same(self) -> list[float]:
        """Give the cosine of each natural clip of a target to the centre of the target's others."""
        return [
            each for vectors in self.trials.values() if len(vectors) > 1 for each in to_the_others(vectors).tolist()
        ]

    def eer(self, vectors: Sequence[tuple[str, Tensor]]) -> float | None:
        """Give how often the verifier errs on sounds, (target, vector) each, against the targets' natural clips."""
        targets = dict.fromkeys(target for target, _ in vectors)
        made = {name: torch.stack([vector for target, vector in vectors if target == name]) for name in targets}
        return conversion_eer(made, self.trials)
