"""An evaluation: every system makes the sounds of all pairs, and the judges hear them.

pairs --> system --> files --> recogniser, verifier, measures --> outcomes --> figures with their intervals
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ssl_vc.audio import read
from ssl_vc.evaluate.cost import Cost
from ssl_vc.evaluate.judging import Judged, Judges
from ssl_vc.evaluate.making import Watch, label_of, make
from ssl_vc.evaluate.pairs import Task
from ssl_vc.evaluate.results import MEASURES, Results, Summary
from ssl_vc.evaluate.statistics import Estimate, estimate, mean, ratio
from ssl_vc.evaluate.systems import System
from ssl_vc.files import harmless

TARGETS = "natural target"
POOLED = {"wer": "words", "cer": "letters"}  # errors of all pairs over what was said in all of them
PLAIN = [measure.name for measure in MEASURES if measure.name not in (*POOLED, "eer", "real_time_factor")]


def evaluate(
    task: Task,
    systems: Sequence[System],
    judges: Judges,
    folder: Path,
    watch: Watch = lambda things, _: things,
    notes: Sequence[str] = (),
) -> Results:
    """Judge systems on the pairs of a task.

    Args:
        task: the pairs.
        systems: each with a name of its own.
        judges: who judges.
        folder: for the sounds that are made.
        watch: see `making.Watch`.
        notes: what else readers must know, a sentence each.
    """
    places = [harmless(system.name).casefold() for system in systems] + [TARGETS]
    for system, place in zip(systems, places, strict=False):
        if not system.name or places.count(place) > 1:
            raise ValueError(f"a system cannot be called {system.name!r}, as another is; give it a name of its own.")
    summaries, outcomes = [], []
    for system in systems:
        for seconds in task.reference_seconds if system.converts else (None,):
            made, cost = make(task, system, seconds, folder, watch)
            judged = Judged(task, system, made, judges, folder, watch, label_of(system, seconds))
            summaries.append(_summary(system, seconds, judged, judges, cost))
            outcomes += judged.outcomes
    natural = sum(row.natural for row in summaries)
    summaries[natural:natural] = _targets(judges)
    return Results(task.name, list(_judges(judges)), [*_notes(task, judges, summaries), *notes], summaries, outcomes)


def _summary(system: System, seconds: float | None, judged: Judged, judges: Judges, cost: Cost) -> Summary:
    good = [outcome.values for outcome in judged.good]
    values: dict[str, Estimate | None] = {name: mean([each.get(name) for each in good]) for name in PLAIN}
    for name, units in POOLED.items():
        told = [(each[f"{units}_wrong"] or 0, each[units] or 0) for each in good if each.get(units)]
        values[name] = ratio([100 * wrong for wrong, _ in told], [of for _, of in told])
    people, vectors = judges.people, list(judged.vectors.values())
    if people is not None and not system.natural and not system.copies:
        values["eer"] = estimate(lambda drawn: people.eer([vectors[index] for index in drawn]), len(vectors))
    if system.costs:
        values["real_time_factor"] = ratio(*([each[name] or 0.0 for each in good] for name in ("taken", "seconds")))
    return Summary(
        system.name,
        system.what,
        system.natural,
        seconds if system.converts else None,
        len(judged.outcomes),
        len(judged.outcomes) - len(good),
        values,
        system.size_mb,
        round(cost.peak_bytes / 1e6, 1) if system.costs and cost.peak_bytes is not None else None,
        system.converts,
        system.copies,
    )


def _targets(judges: Judges) -> Iterator[Summary]:
    """Give the row of the targets' own clips."""
    if judges.people is None:
        return
    same = judges.people.same()
    values = {"similarity": mean(same)}
    scores = [judges.naturalness(read(path)) for path in judges.people.clips]
    names = {name for each in scores for name in each}  # a clip that nobody could judge has none
    values |= {name: mean([each.get(name) for each in scores]) for name in names}
    yield Summary(TARGETS, "other clips of the targets", True, None, len(same), 0, values)


def _judges(judges: Judges) -> Iterator[str]:
    if judges.recogniser is not None:
        yield f"words: {judges.recogniser.description}"
    if judges.people is not None:
        yield f"voices: {judges.people.description}"
    if judges.dnsmos is not None:
        yield f"naturalness: {judges.dnsmos.description}"
    if judges.distill_mos is not None:
        yield f"naturalness: {judges.distill_mos.description}"


def _notes(task: Task, judges: Judges, summaries: Sequence[Summary]) -> Iterator[str]:
    untold = sum(not pair.text for pair in task.pairs)
    if untold and judges.recogniser is not None:
        yield f"{untold} of {len(task.pairs)} pairs have no text, so nobody counts their words."
    if judges.people is not None and not all(target.trials for target in task.targets.values()):
        yield "Targets without trials are judged by their references, so of what the voices are made of."
    if any(row.copies and row.pairs > row.failed and row.values.get("pesq") is None for row in summaries):
        yield "PESQ or STOI is missing, for its package is; pip install 'ssl-vc[eval]'."
    for row in summaries:
        if row.failed:
            yield f"{row.failed} of {row.pairs} pairs failed in {row.system}; its figures leave them out."
