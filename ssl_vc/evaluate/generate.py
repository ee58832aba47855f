"""Generate the audio of all pairs with a system, and write it to a folder."""

import errno
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ssl_vc
from ssl_vc.evaluate.cost import Cost, measure_cost
from ssl_vc.evaluate.pairs import Pair, TestSet, read_references
from ssl_vc.evaluate.results import Outcome, format_reference
from ssl_vc.evaluate.systems import System
from ssl_vc.files import printable, safe_filename

log = logging.getLogger(__name__)

SOUNDS = "sounds"  # subfolder of the audio files
FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG  # limits of a disk, a quota and a file
Progress = Callable[[Sequence[Any], str], Iterable[Any]]
"""Iterates over items under a label, such as tqdm."""


def generate(
    test_set: TestSet, system: System, seconds: float | None, folder: Path, progress: Progress
) -> tuple[list[Outcome], Cost]:
    """Generate the audio of all pairs; a failure becomes an outcome with its reason.

    Args:
        test_set: the pairs.
        system: generates the audio.
        seconds: how much of each target's references it may use; all if None.
        folder: of the results; the audio goes to a subfolder.
        progress: see `Progress`.
    """
    label = run_label(system, seconds)
    output = folder / SOUNDS / safe_filename(label)
    if not system.natural:
        output.mkdir(parents=True, exist_ok=True)
    outcomes = []
    with measure_cost() as cost:
        failures = _enroll(test_set, system, seconds, progress) if system.converts else {}
        for pair in progress(test_set.pairs, label):
            outcome = Outcome(
                system=system.name,
                reference_seconds=seconds if system.converts else None,
                pair=pair.name,
                source=f"{pair.speaker} {printable(pair.source.name)}".strip(),
                target=pair.target,
                transcript=pair.text,
            )
            if pair.target in failures:
                outcome = replace(outcome, error=failures[pair.target], failed=True)
            else:
                outcome = _generate(system, pair, outcome, output)
            outcomes.append(outcome)
    return outcomes, cost


def run_label(system: System, seconds: float | None) -> str:
    """Returns a system's name with the amount of reference audio."""
    return f"{system.name} ({format_reference(seconds)})" if system.converts else system.name


def reason(error: Exception) -> str:
    """Returns an error as text: our own sentences as they are, anything else with its class."""
    return str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"


def _enroll(test_set: TestSet, system: System, seconds: float | None, progress: Progress) -> dict[str, str]:
    """Enroll all targets and warm up; returns the reasons of those that failed."""
    failures = {}
    for target in progress(list(test_set.targets.values()), f"voices for {run_label(system, seconds)}"):
        try:
            system.enroll(target.name, read_references(target, seconds))
        except Exception as error:  # the other targets go on, whatever it is
            failures[target.name] = reason(error)
    first = next((pair for pair in test_set.pairs if pair.target not in failures), None)
    if first is not None:
        try:
            system(first)  # the first call is slower: memory is allocated, threads start
        except Exception as error:  # it is reported when the pair is generated
            log.debug("%s: %s", first.name, error)
    return failures


def _generate(system: System, pair: Pair, outcome: Outcome, output: Path) -> Outcome:
    try:
        start, saved = time.perf_counter(), system.saved_seconds
        wav, rate = system(pair)
        taken = time.perf_counter() - start + system.saved_seconds - saved
        if system.natural:
            return outcome  # the source file is scored in place
        file = ssl_vc.write(output / f"{pair.name}.wav", wav, rate)
    except Exception as error:  # the other pairs go on, unless the disk is full
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
            raise
        return replace(outcome, error=reason(error), failed=True)
    values = {"seconds": len(wav) / rate}
    if system.timed:
        values |= {"taken": taken, "real_time_factor": taken * rate / max(len(wav), 1)}
    return replace(outcome, file=file.relative_to(output.parents[1]).as_posix(), values=values)
