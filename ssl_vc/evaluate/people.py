"""People: what a verifier knows of the speakers of an evaluation, and whom it takes a sound for."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.audio import read
from ssl_vc.evaluate.pairs import Pair, Task
from ssl_vc.evaluate.similarity import centre, conversion_eer, of_speakers
from ssl_vc.evaluate.verifier import Verifier


class Likeness(NamedTuple):
    """Whom a sound is like: its vector (dim,), and the cosines to the target and to the source's speaker."""

    vector: Tensor
    target: float
    source: float


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
        self.trials: dict[str, Tensor] = {}
        for target in task.targets.values():
            vectors = [verifier(read(path)) for path in target.trials or target.references]
            self.trials[target.name] = torch.stack(vectors)
        self.sources = {path: verifier(read(path)) for path in dict.fromkeys(pair.source for pair in task.pairs)}
        self.of = {pair.source: pair.speaker for pair in task.pairs}
        self.natural = of_speakers(self.trials)

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

    def compare(self, wav: Tensor, pair: Pair) -> Likeness:
        """Compare a sound (samples,) at 16 kHz, or the source itself, with the pair's speakers."""
        vector = self.verifier(wav)
        speaker = self.of[pair.source]
        others = [each for path, each in self.sources.items() if speaker == self.of[path] != "" and path != pair.source]
        own = centre(torch.stack(others)) if others else self.sources[pair.source]
        return Likeness(vector, float(vector @ centre(self.trials[pair.target])), float(vector @ own))

    def same(self) -> list[float]:
        """Give the cosine of each natural clip of a target to the centre of the target's others."""
        return [
            float(vectors[index] @ centre(torch.cat([vectors[:index], vectors[index + 1 :]])))
            for vectors in self.trials.values()
            for index in range(len(vectors))
            if len(vectors) > 1
        ]

    def eer(self, vectors: Sequence[tuple[str, Tensor]]) -> float | None:
        """Give how often the verifier errs on sounds, (target, vector) each, against the targets' natural clips."""
        targets = dict.fromkeys(target for target, _ in vectors)
        made = {name: torch.stack([vector for target, vector in vectors if target == name]) for name in targets}
        return conversion_eer(made, self.trials)
