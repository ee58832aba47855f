"""Run an evaluation: every system converts all pairs, and the judges score the audio.

pairs --> system --> files --> recogniser, verifier, metrics --> outcomes --> summaries with confidence intervals
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ssl_vc.audio import read
from ssl_vc.evaluate.cost import Cost
from ssl_vc.evaluate.generate import Progress, generate, run_label
from ssl_vc.evaluate.pairs import TestSet
from ssl_vc.evaluate.results import METRICS, Outcome, Results, Summary
from ssl_vc.evaluate.scoring import Judges, Scores, score
from ssl_vc.evaluate.statistics import Estimate, bootstrap, bootstrap_mean, bootstrap_ratio
from ssl_vc.evaluate.systems import System
from ssl_vc.files import safe_filename

TARGETS = "natural target"
POOLED = {"wer": "words", "cer": "letters"}  # errors of all pairs over the length of all references
AVERAGED = [metric.name for metric in METRICS if metric.name not in (*POOLED, "eer", "real_time_factor")]


def evaluate(
    test_set: TestSet,
    systems: Sequence[System],
    judges: Judges,
    folder: Path,
    progress: Progress = lambda items, _: items,
    notes: Sequence[str] = (),
) -> Results:
    """Evaluate systems on a test set.

    Args:
        test_set: the pairs.
        systems: with different names.
        judges: the models that score.
        folder: for the generated audio.
        progress: see `generate.Progress`.
        notes: further caveats for the reader, one sentence each.
    """
    _check_names(systems)
    summaries: list[Summary] = []
    outcomes: list[Outcome] = []
    for system in systems:
        for seconds in test_set.reference_seconds if system.converts else (None,):
            generated, cost = generate(test_set, system, seconds, folder, progress)
            label = run_label(system, seconds)
            scores = score(test_set, system, generated, judges, folder, progress=progress, label=label)
            summaries.append(_summary(system, seconds, scores, judges, cost))
            outcomes += scores.outcomes
    natural = sum(row.natural for row in summaries)
    summaries[natural:natural] = _natural_targets(judges)
    notes = [*_notes(test_set, judges, summaries), *notes]
    return Results(test_set.name, list(_descriptions(judges)), notes, summaries, outcomes)


def _check_names(systems: Sequence[System]) -> None:
    folders = [safe_filename(system.name).casefold() for system in systems] + [TARGETS]
    for system, folder in zip(systems, folders, strict=False):
        if not system.name or folders.count(folder) > 1:
            raise ValueError(f"the name {system.name!r} of a system is empty or taken; choose a unique one.")


def _summary(system: System, seconds: float | None, scores: Scores, judges: Judges, cost: Cost) -> Summary:
    succeeded = [outcome.values for outcome in scores.succeeded]
    values: dict[str, Estimate | None] = {
        name: bootstrap_mean([each.get(name) for each in succeeded]) for name in AVERAGED
    }
    for name, units in POOLED.items():
        counts = [(each[f"{units}_wrong"] or 0, each[units] or 0) for each in succeeded if each.get(units)]
        values[name] = bootstrap_ratio([100 * errors for errors, _ in counts], [length for _, length in counts])
    speakers, embeddings = judges.speaker_references, list(scores.embeddings.values())
    if speakers is not None and not system.natural and not system.copies:
        values["eer"] = bootstrap(lambda drawn: speakers.eer([embeddings[index] for index in drawn]), len(embeddings))
    if system.timed:
        times, lengths = ([each[name] or 0.0 for each in succeeded] for name in ("taken", "seconds"))
        values["real_time_factor"] = bootstrap_ratio(times, lengths)
    return Summary(
        system=system.name,
        description=system.description,
        natural=system.natural,
        reference_seconds=seconds if system.converts else None,
        pairs=len(scores.outcomes),
        failed=len(scores.outcomes) - len(succeeded),
        values=values,
        size_mb=system.size_mb,
        peak_memory_mb=round(cost.peak_bytes / 1e6, 1) if system.timed and cost.peak_bytes is not None else None,
        converts=system.converts,
        copies=system.copies,
    )


def _natural_targets(judges: Judges) -> Iterator[Summary]:
    """Yields the row of the targets' natural clips."""
    if judges.speaker_references is None:
        return
    cosines = judges.speaker_references.natural_cosines()
    values = {"similarity": bootstrap_mean(cosines)}
    scores = [judges.naturalness(read(path)) for path in judges.speaker_references.clips]
    names = {name for each in scores for name in each}  # a clip without a score has no names
    values |= {name: bootstrap_mean([each.get(name) for each in scores]) for name in names}
    yield Summary(
        system=TARGETS,
        description="other clips of the targets",
        natural=True,
        reference_seconds=None,
        pairs=len(cosines),
        failed=0,
        values=values,
    )


def _descriptions(judges: Judges) -> Iterator[str]:
    if judges.recogniser is not None:
        yield f"words: {judges.recogniser.description}"
    if judges.speaker_references is not None:
        yield f"voices: {judges.speaker_references.description}"
    if judges.dnsmos is not None:
        yield f"naturalness: {judges.dnsmos.description}"
    if judges.distill_mos is not None:
        yield f"naturalness: {judges.distill_mos.description}"


def _notes(test_set: TestSet, judges: Judges, summaries: Sequence[Summary]) -> Iterator[str]:
    textless = sum(not pair.text for pair in test_set.pairs)
    if textless and judges.recogniser is not None:
        yield f"{textless} of {len(test_set.pairs)} pairs have no text and are left out of the error rates."
    if judges.speaker_references is not None and not all(target.trials for target in test_set.targets.values()):
        yield "Targets without trials are scored against their references, the same clips their voices are made from."
    if any(row.copies and row.pairs > row.failed and row.values.get("pesq") is None for row in summaries):
        yield "PESQ or STOI is missing because its package is; pip install 'ssl-vc[eval]'."
    for row in summaries:
        if row.failed:
            yield f"{row.failed} of {row.pairs} pairs failed in {row.system} and are left out of its figures."
