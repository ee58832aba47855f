"""Judging: sounds are heard as they lie on disk, each by every judge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ssl_vc.audio import normalize_loudness, read
from ssl_vc.evaluate.continuity import jumpiness
from ssl_vc.evaluate.distill_mos import DistillMos
from ssl_vc.evaluate.making import Watch, reason
from ssl_vc.evaluate.pairs import Pair, Task
from ssl_vc.evaluate.people import People
from ssl_vc.evaluate.pitch import pitch_error
from ssl_vc.evaluate.quality import Dnsmos, pesq, stoi
from ssl_vc.evaluate.recogniser import Recogniser
from ssl_vc.evaluate.results import Outcome
from ssl_vc.evaluate.spectral import aligned_distortion, mel_cepstral_distortion, mel_distance
from ssl_vc.evaluate.systems import System
from ssl_vc.evaluate.words import letter_errors, word_errors

Values = dict[str, float | None]


@dataclass(frozen=True)
class Judges:
    """Who judges; what is None is not judged."""

    recogniser: Recogniser | None = None
    people: People | None = None
    dnsmos: Dnsmos | None = None
    distill_mos: DistillMos | None = None

    def naturalness(self, wav: Tensor) -> Values:
        """Returns the scores of naturalness by the names of their measures; none of silence."""
        scores = None if self.dnsmos is None else self.dnsmos(wav)
        values: Values = {} if scores is None else {f"dnsmos_{name}": value for name, value in scores._asdict().items()}
        return values if self.distill_mos is None else values | {"distill_mos": self.distill_mos(wav)}


class Judged:
    """The sounds of a system, judged: `outcomes`, and the verifier's vectors of those that it could hear.

    Args:
        task: the pairs.
        system: whose sounds they are.
        made: what became of each pair.
        judges: who judges.
        folder: what the sounds' files are relative to.
        watch: see `making.Watch`.
        label: names the system for that.
    """

    def __init__(
        self,
        task: Task,
        system: System,
        made: Sequence[Outcome],
        judges: Judges,
        folder: Path,
        watch: Watch,
        label: str,
    ) -> None:
        self.system, self.judges, self.folder = system, judges, folder
        self.pairs, self.parallel = {pair.name: pair for pair in task.pairs}, task.parallel
        self.vectors: dict[str, tuple[str, Tensor]] = {}
        heard = self._heard(made, watch, f"{label}: words")
        self.outcomes = [self._judged(outcome, heard) for outcome in watch(made, f"{label}: sounds")]

    @property
    def good(self) -> list[Outcome]:
        """The outcomes that count."""
        return [outcome for outcome in self.outcomes if not outcome.failed]

    def _heard(self, made: Sequence[Outcome], watch: Watch, label: str) -> dict[str, str]:
        if self.judges.recogniser is None:
            return {}
        told = [outcome for outcome in made if outcome.said and not outcome.failed]
        texts = self.judges.recogniser(self._sound(outcome) for outcome in told)
        return {outcome.pair: text for outcome, text in zip(watch(told, label), texts, strict=True)}

    def _judged(self, outcome: Outcome, heard: dict[str, str]) -> Outcome:
        """Let every judge hear a sound; one that cannot does not keep the others from it."""
        if outcome.failed:
            return outcome
        pair, wav = self.pairs[outcome.pair], self._sound(outcome)
        outcome = replace(outcome, heard=heard.get(outcome.pair))
        values, unheard = dict(outcome.values), []
        judges: tuple[tuple[str, Callable[[], Values]], ...] = (
            ("words", lambda: self._words(outcome)),
            ("voice", lambda: self._voice(wav, pair)),
            ("melody and spectrum", lambda: self._beside_source(wav, pair)),
            ("naturalness", lambda: self.judges.naturalness(wav)),
        )
        for what, judge in judges:
            try:
                values |= judge()
            except Exception as error:  # whatever it is, the other judges go on
                unheard.append(f"its {what} could not be judged: {reason(error)}")
        return replace(outcome, values=values, error=" ".join(unheard))

    def _words(self, outcome: Outcome) -> Values:
        if outcome.heard is None:
            return {}
        values: Values = {}
        assert self.judges.recogniser is not None
        for name, units, errors in (("wer", "words", word_errors), ("cer", "letters", letter_errors)):
            wrong, of = errors(outcome.said, outcome.heard, self.judges.recogniser.normalize)
            values |= {units: of, f"{units}_wrong": wrong, name: 100 * wrong / of if of else None}
        return values

    def _voice(self, wav: Tensor, pair: Pair) -> Values:
        if self.judges.people is None:
            return {}
        like = self.judges.people.compare(wav, pair, natural=self.system.natural)
        self.vectors[pair.name] = pair.target, like.vector
        nearer = None if like.source is None else 100.0 * (like.target > like.source)
        values: Values = {"similarity": like.target, "source_similarity": like.source, "nearer": nearer}
        if self.system.copies:
            values["identity"] = self.judges.people.identity(like.vector, pair)
        return values

    def _beside_source(self, wav: Tensor, pair: Pair) -> Values:
        if self.system.natural:
            return {}
        source = read(pair.source)
        error = pitch_error(source, wav)
        values: Values = {"f0_correlation": error.correlation, "f0_rmse_cents": error.cents}
        values |= {"voicing_error": error.voicing, "jumpiness": jumpiness(source, wav)}
        if self.system.copies:
            values |= {"pesq": pesq(source, wav), "stoi": stoi(source, wav)}
            values["copy_mcd_db"] = mel_cepstral_distortion(source, wav)
        elif pair.reading is not None:
            reading = read(pair.reading)
            values["mcd_db"] = aligned_distortion(reading, wav)
            if self.parallel:
                values |= _beside_truth(reading, wav)
        return values

    def _sound(self, outcome: Outcome) -> Tensor:
        return read(self.folder / outcome.file if outcome.file else self.pairs[outcome.pair].source)


def _beside_truth(truth: Tensor, wav: Tensor) -> Values:
    """Returns the distances of a conversion to the same words, at the same time, by the target."""
    return {
        "true_mcd_db": mel_cepstral_distortion(truth, wav),
        "true_mel": mel_distance(*(normalize_loudness(each) for each in (truth, wav))),
        "true_f0_cents": pitch_error(truth, wav).cents,
    }
