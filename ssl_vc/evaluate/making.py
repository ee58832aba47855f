"""Making: a system makes the sounds of all pairs, and writes them to a folder."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ssl_vc
from ssl_vc.evaluate.cost import Cost, measured
from ssl_vc.evaluate.pairs import Pair, Task, reference_wavs
from ssl_vc.evaluate.results import Outcome, length_name
from ssl_vc.evaluate.systems import System
from ssl_vc.files import harmless, printable

log = logging.getLogger(__name__)

SOUNDS = "sounds"  # the folder that they go to
Watch = Callable[[Sequence[Any], str], Iterable[Any]]
"""Gives things again while they are worked on, for a progress bar; it is told what is done."""


def make(task: Task, system: System, seconds: float | None, folder: Path, watch: Watch) -> tuple[list[Outcome], Cost]:
    """Make the sounds of all pairs; what fails is an outcome with its reason.

    Args:
        task: the pairs.
        system: what makes the sounds.
        seconds: of each target's recordings that it may hear; all if None.
        folder: the sounds go to a folder in it.
        watch: see `Watch`.
    """
    label = label_of(system, seconds)
    place = folder / SOUNDS / harmless(label)
    if not system.natural:
        place.mkdir(parents=True, exist_ok=True)
    outcomes = []
    with measured() as cost:
        unheard = _hear(task, system, seconds, watch) if system.converts else {}
        for pair in watch(task.pairs, label):
            source = f"{pair.speaker} {printable(pair.source.name)}".strip()
            used = seconds if system.converts else None
            outcome = Outcome(system.name, used, pair.name, source, pair.target, said=pair.text)
            if pair.target in unheard:
                outcome = replace(outcome, error=unheard[pair.target], failed=True)
            else:
                outcome = _made(system, pair, outcome, place)
            outcomes.append(outcome)
    return outcomes, cost


def label_of(system: System, seconds: float | None) -> str:
    """Name a system and how much it hears of a target."""
    return f"{system.name} ({length_name(seconds)})" if system.converts else system.name


def reason(error: Exception) -> str:
    """Say why something failed: a sentence of ours as it is, anything else with its kind."""
    return str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"


def _hear(task: Task, system: System, seconds: float | None, watch: Watch) -> dict[str, str]:
    """Let a system hear the targets; give those that it could not hear, and why."""
    unheard = {}
    for target in watch(list(task.targets.values()), f"voices for {label_of(system, seconds)}"):
        try:
            system.hear(target.name, reference_wavs(target, seconds))
        except Exception as error:  # whatever it is, the other targets go on
            unheard[target.name] = reason(error)
    first = next((pair for pair in task.pairs if pair.target not in unheard), None)
    if first is not None:
        try:
            system(first)  # the first call is slower: memory is claimed, threads start
        except Exception as error:  # it is made again, and then it counts
            log.debug("%s: %s", first.name, error)
    return unheard


def _made(system: System, pair: Pair, outcome: Outcome, place: Path) -> Outcome:
    try:
        start, saved = time.perf_counter(), system.saved
        wav, rate = system(pair)
        taken = time.perf_counter() - start + system.saved - saved
        if system.natural:
            return outcome  # it lies where it is
        file = ssl_vc.write(place / f"{pair.name}.wav", wav, rate)
    except Exception as error:  # whatever it is, the other pairs go on
        return replace(outcome, error=reason(error), failed=True)
    values = {"seconds": len(wav) / rate}
    if system.costs:
        values |= {"taken": taken, "real_time_factor": taken * rate / max(len(wav), 1)}
    return replace(outcome, file=file.relative_to(place.parents[1]).as_posix(), values=values)
