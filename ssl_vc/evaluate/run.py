"""An evaluation: every system makes the sounds of all pairs, and the judges hear them.

pairs --> system --> files --> recogniser, verifier, measures --> outcomes --> figures with their intervals
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ssl_vc.audio import read
from ssl_vc.evaluate.cost import Cost
from ssl_vc.evaluate.judging import Judged, Judges, opinion
from ssl_vc.evaluate.making import Watch, label_of, make
from ssl_vc.evaluate.pairs import Task
from ssl_vc.evaluate.results import MEASURES, Results, Summary
from ssl_vc.evaluate.statistics import RESAMPLES, Estimate, estimate, mean, ratio
from ssl_vc.evaluate.systems import System

POOLED = {"wer": "words", "cer": "letters"}  # errors of all pairs over what was said in all of them
PLAIN = [measure.name for measure in MEASURES if measure.name not in (*POOLED, "eer", "real_time_factor")]


def evaluate(
    task: Task, systems: Sequence[System], judges: Judges, folder: Path, watch: Watch = lambda things, _: things
) -> Results:
    """Judge systems on the pairs of a task.

    Args:
        task: the pairs.
        systems: each with a name of its own.
        judges: who judges.
        folder: for the sounds that are made.
        watch: see `making.Watch`.
    """
    names = [system.name for system in systems]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"two systems are called {twice[0]!r}; give them different names.")
    summaries, outcomes = [], []
    for system in systems:
        for seconds in task.reference_seconds if system.converts else (None,):
            made, cost = make(task, system, seconds, folder, watch)
            judged = Judged(task, system, made, judges, folder, watch, label_of(system, seconds))
            summaries.append(_summary(system, seconds, judged, judges, cost))
            outcomes += judged.outcomes
    natural = sum(row.natural for row in summaries)
    summaries[natural:natural] = _targets(task, judges)
    return Results(task.name, list(_judges(judges)), list(_notes(task, summaries)), summaries, outcomes)


def _summary(system: System, seconds: float | None, judged: Judged, judges: Judges, cost: Cost) -> Summary:
    good = [outcome.values for outcome in judged.good]
    values: dict[str, Estimate | None] = {name: mean([each.get(name) for each in good]) for name in PLAIN}
    for name, units in POOLED.items():
        told = [(each[f"{units}_wrong"] or 0, each[units] or 0) for each in good if each.get(units)]
        values[name] = ratio([100 * wrong for wrong, _ in told], [of for _, of in told])
    people, vectors = judges.people, [judged.vectors[each.pair] for each in judged.good if judged.vectors]
    if people is not None and not system.natural and not system.copies:
        values["eer"] = estimate(lambda drawn: people.eer([vectors[index] for index in drawn]), len(vectors))
    if not system.natural:
        values["real_time_factor"] = ratio(*([each.get(name) or 0.0 for each in good] for name in ("taken", "seconds")))
    return Summary(
        system.name,
        system.what,
        system.natural,
        seconds if system.converts else None,
        len(judged.outcomes),
        len(judged.outcomes) - len(good),
        values,
        system.size_mb,
        None if system.natural or cost.peak_bytes is None else round(cost.peak_bytes / 1e6, 1),
        system.converts,
    )


def _targets(task: Task, judges: Judges) -> Iterator[Summary]:
    """Give the row of the targets' own clips."""
    if judges.people is None:
        return
    same = judges.people.same()
    values = {"similarity": mean(same)}
    if judges.dnsmos is not None:
        wavs = [read(path) for target in task.targets.values() for path in target.trials or target.references]
        opinions = [opinion(judges.dnsmos, wav) for wav in wavs]
        values |= {name: mean([each.get(name) for each in opinions]) for name in PLAIN if name.startswith("dnsmos")}
    yield Summary("natural target", "other clips of the targets", True, None, len(same), 0, values)


def _judges(judges: Judges) -> Iterator[str]:
    if judges.recogniser is not None:
        yield f"words: {judges.recogniser.description}"
    if judges.people is not None:
        yield f"voices: {judges.people.description}"
    if judges.dnsmos is not None:
        yield f"naturalness: {judges.dnsmos.description}"


def _notes(task: Task, summaries: Sequence[Summary]) -> Iterator[str]:
    yield f"Intervals are 95 %, from {RESAMPLES} resamples of the pairs."
    untold = sum(not pair.text for pair in task.pairs)
    if untold:
        yield f"{untold} of {len(task.pairs)} pairs have no text, so nobody counts their words."
    for row in summaries:
        if row.failed:
            yield f"{row.failed} of {row.pairs} pairs failed in {row.system}; its figures leave them out."
