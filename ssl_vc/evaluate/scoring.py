"""Score the audio of a system as it lies on disk, with every judge."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ssl_vc.audio import read
from ssl_vc.evaluate.continuity import jumpiness
from ssl_vc.evaluate.distill_mos import DistillMos
from ssl_vc.evaluate.generate import Progress, reason
from ssl_vc.evaluate.pairs import Pair, TestSet
from ssl_vc.evaluate.pitch import pitch_error
from ssl_vc.evaluate.quality import Dnsmos, pesq, stoi
from ssl_vc.evaluate.recogniser import Recogniser
from ssl_vc.evaluate.results import Outcome
from ssl_vc.evaluate.speaker_references import SpeakerReferences
from ssl_vc.evaluate.spectral import aligned_distortion, mel_cepstral_distortion, mel_distance
from ssl_vc.evaluate.systems import System
from ssl_vc.evaluate.text_errors import character_errors, word_errors
from ssl_vc.loudness import normalize_loudness

Values = dict[str, float | None]


@dataclass(frozen=True)
class Judges:
    """The models that score audio; None is skipped."""

    recogniser: Recogniser | None = None
    speaker_references: SpeakerReferences | None = None
    dnsmos: Dnsmos | None = None
    distill_mos: DistillMos | None = None

    def naturalness(self, wav: Tensor) -> Values:
        """Returns the naturalness scores by the names of their metrics; empty for silence."""
        scores = None if self.dnsmos is None else self.dnsmos(wav)
        values: Values = {} if scores is None else {f"dnsmos_{name}": value for name, value in scores._asdict().items()}
        return values if self.distill_mos is None else values | {"distill_mos": self.distill_mos(wav)}


@dataclass(frozen=True)
class Scores:
    """Scored outcomes of a system.

    Attributes:
        outcomes: of all pairs.
        embeddings: (target, speaker embedding) of the pairs that the verifier could embed, by name.
    """

    outcomes: Sequence[Outcome]
    embeddings: Mapping[str, tuple[str, Tensor]]

    @property
    def succeeded(self) -> list[Outcome]:
        """The outcomes that count."""
        return [outcome for outcome in self.outcomes if not outcome.failed]


def score(
    test_set: TestSet,
    system: System,
    outcomes: Sequence[Outcome],
    judges: Judges,
    folder: Path,
    *,
    progress: Progress,
    label: str,
) -> Scores:
    """Score the generated audio of all pairs.

    Args:
        test_set: the pairs.
        system: that generated the audio.
        outcomes: of `generate`.
        judges: the models that score.
        folder: that the files of the outcomes are relative to.
        progress: see `generate.Progress`.
        label: of the system, for progress.
    """
    scorer = _Scorer(test_set, system, judges, folder)
    hypotheses = scorer.transcribe(outcomes, progress, f"{label}: words")
    scored = [scorer.score(outcome, hypotheses.get(outcome.pair)) for outcome in progress(outcomes, f"{label}: sounds")]
    return Scores(scored, scorer.embeddings)


class _Scorer:
    def __init__(self, test_set: TestSet, system: System, judges: Judges, folder: Path) -> None:
        self._system, self._judges, self._folder = system, judges, folder
        self._pairs, self._parallel = {pair.name: pair for pair in test_set.pairs}, test_set.parallel
        self.embeddings: dict[str, tuple[str, Tensor]] = {}

    def transcribe(self, outcomes: Sequence[Outcome], progress: Progress, label: str) -> dict[str, str]:
        """Returns what is recognised in the pairs with a transcript, by name."""
        if self._judges.recogniser is None:
            return {}
        transcribed = [outcome for outcome in outcomes if outcome.transcript and not outcome.failed]
        texts = self._judges.recogniser(self._read(outcome) for outcome in transcribed)
        return {outcome.pair: text for outcome, text in zip(progress(transcribed, label), texts, strict=True)}

    def score(self, outcome: Outcome, hypothesis: str | None) -> Outcome:
        """Run every judge on one output; a failing judge does not stop the others."""
        if outcome.failed:
            return outcome
        pair, wav = self._pairs[outcome.pair], self._read(outcome)
        outcome = replace(outcome, hypothesis=hypothesis)
        values, errors = dict(outcome.values), []
        metrics: tuple[tuple[str, Callable[[], Values]], ...] = (
            ("words", lambda: self._error_rates(outcome)),
            ("voice", lambda: self._similarity(wav, pair)),
            ("F0 and spectrum", lambda: self._distances(wav, pair)),
            ("naturalness", lambda: self._judges.naturalness(wav)),
        )
        for what, metric in metrics:
            try:
                values |= metric()
            except Exception as error:  # the other judges go on, whatever it is
                errors.append(f"its {what} could not be scored: {reason(error)}")
        return replace(outcome, values=values, error=" ".join(errors))

    def _error_rates(self, outcome: Outcome) -> Values:
        if outcome.hypothesis is None:
            return {}
        values: Values = {}
        assert self._judges.recogniser is not None
        for name, units, count in (("wer", "words", word_errors), ("cer", "letters", character_errors)):
            errors, length = count(outcome.transcript, outcome.hypothesis, self._judges.recogniser.normalize)
            values |= {units: length, f"{units}_wrong": errors, name: 100 * errors / length if length else None}
        return values

    def _similarity(self, wav: Tensor, pair: Pair) -> Values:
        speakers = self._judges.speaker_references
        if speakers is None:
            return {}
        embedding, target, source = speakers.compare(wav, pair, natural=self._system.natural)
        self.embeddings[pair.name] = pair.target, embedding
        nearer = None if source is None else 100.0 * (target > source)
        values: Values = {"similarity": target, "source_similarity": source, "nearer": nearer}
        if self._system.copies:
            values["identity"] = speakers.identity(embedding, pair)
        return values

    def _distances(self, wav: Tensor, pair: Pair) -> Values:
        if self._system.natural:
            return {}
        source = read(pair.source)
        pitch = pitch_error(source, wav)
        values: Values = {"f0_correlation": pitch.correlation, "f0_rmse_cents": pitch.cents}
        values |= {"voicing_error": pitch.voicing, "jumpiness": jumpiness(source, wav)}
        if self._system.copies:
            values |= {"pesq": pesq(source, wav), "stoi": stoi(source, wav)}
            values["copy_mcd_db"] = mel_cepstral_distortion(source, wav)
        elif pair.reading is not None:
            reading = read(pair.reading)
            values["mcd_db"] = aligned_distortion(reading, wav)
            if self._parallel:
                values |= _parallel_distances(reading, wav)
        return values

    def _read(self, outcome: Outcome) -> Tensor:
        return read(self._folder / outcome.file if outcome.file else self._pairs[outcome.pair].source)


def _parallel_distances(reference: Tensor, wav: Tensor) -> Values:
    """Returns the distances of a conversion to the target's parallel speech, without alignment."""
    return {
        "true_mcd_db": mel_cepstral_distortion(reference, wav),
        "true_mel": mel_distance(*(normalize_loudness(each) for each in (reference, wav))),
        "true_f0_cents": pitch_error(reference, wav).cents,
    }
