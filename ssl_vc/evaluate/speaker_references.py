"""Speaker embeddings of the natural clips of a test set, and the similarity of any audio to them."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.audio import read
from ssl_vc.evaluate.pairs import Pair, TestSet
from ssl_vc.evaluate.similarity import centroid, conversion_eer, leave_one_out_similarity, natural_similarity
from ssl_vc.evaluate.verifier import Verifier
from ssl_vc.files import printable

log = logging.getLogger(__name__)


class SpeakerSimilarity(NamedTuple):
    """The embedding (dim,) of some audio, and its cosines to the target and to the source speaker."""

    embedding: Tensor
    target: float
    source: float | None


class SpeakerReferences:
    """Embeddings of the speakers of a test set.

    A target is represented by its trials (by its references where there are none), a source speaker by their other
    sources (by the source itself where there is none).

    Args:
        test_set: the speakers' clips.
        verifier: embeds them.
    """

    def __init__(self, test_set: TestSet, verifier: Verifier) -> None:
        self.verifier = verifier
        clips = {target.name: self._embed(target.trials or target.references) for target in test_set.targets.values()}
        self.clips = [path for embeddings in clips.values() for path in embeddings]
        self.trials = {name: torch.stack([*embeddings.values()]) for name, embeddings in clips.items() if embeddings}
        self.speakers = {pair.source: pair.speaker for pair in test_set.pairs}
        self.sources = self._embed(self.speakers)
        self.natural = natural_similarity(self.trials)

    def _embed(self, paths: Iterable[Path]) -> dict[Path, Tensor]:
        """Returns the embeddings of files; unusable files are logged and left out."""
        embeddings = {}
        for path in paths:
            try:
                embeddings[path] = self.verifier(read(path))
            except (ValueError, OSError) as error:
                log.warning("speaker similarity leaves out %s: %s", printable(path), error)
        return embeddings

    @property
    def description(self) -> str:
        """The verifier, and how well it separates natural clips."""
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

    def compare(self, wav: Tensor, pair: Pair, *, natural: bool = False) -> SpeakerSimilarity:
        """Compare audio (samples,) at 16 kHz with the pair's speakers.

        Args:
            wav: the audio.
            pair: the pair it belongs to.
            natural: it is the source itself, which is not compared with itself.
        """
        if pair.target not in self.trials:
            raise ValueError(f"the verifier could embed no clip of {pair.target}; see the warnings above.")
        known, speaker = self.sources.get(pair.source) if natural else None, self.speakers[pair.source]
        embedding = self.verifier(wav) if known is None else known
        same = [path for path, name in self.speakers.items() if speaker and path != pair.source and name == speaker]
        paths = same or ([] if natural else [pair.source])
        sources = [self.sources[path] for path in paths if path in self.sources]
        to_source = float(embedding @ centroid(torch.stack(sources))) if sources else None
        return SpeakerSimilarity(embedding, float(embedding @ centroid(self.trials[pair.target])), to_source)

    def identity(self, embedding: Tensor, pair: Pair) -> float | None:
        """Returns the cosine of a copy's embedding to that of its original clip."""
        original = self.sources.get(pair.source)
        return None if original is None else float(embedding @ original)

    def natural_cosines(self) -> list[float]:
        """Returns the cosine of each natural clip of a target to the centroid of the target's others."""
        several = [embeddings for embeddings in self.trials.values() if len(embeddings) > 1]
        return [cosine for embeddings in several for cosine in leave_one_out_similarity(embeddings).tolist()]

    def eer(self, embeddings: Sequence[tuple[str, Tensor]]) -> float | None:
        """Returns the verifier's equal error rate, in percent, on conversions against the targets' natural clips.

        Args:
            embeddings: (target, embedding) of each conversion.
        """
        targets = dict.fromkeys(target for target, _ in embeddings)
        converted = {name: torch.stack([each for target, each in embeddings if target == name]) for name in targets}
        return conversion_eer(converted, self.trials)
