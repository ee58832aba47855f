"""Results of many conversions: shown one by one, then summed up in a line."""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer
from tqdm import tqdm

from ssl_vc.cli.messages import StoppedError, notify, pace, track

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from ssl_vc.batch.jobs import Job, Result
    from ssl_vc.batch.run import Engine
    from ssl_vc.conversion.converter import VoiceConverter

VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|-?\d+(\.\d+)?")  # parts of a warning that differ between files of its kind


def local_engine(load: "Callable[[], VoiceConverter]", workers: int, threads: int | None) -> "Engine":
    """Return an engine that runs jobs in this process, or in several on this machine."""
    from ssl_vc.batch.process_engine import ProcessEngine
    from ssl_vc.batch.run import LocalEngine

    return LocalEngine(load) if workers == 1 else ProcessEngine(load, workers, threads)


def convert_many(
    engine: "Engine",
    jobs: "Sequence[Job]",
    output: Path,
    unit: str,
    resume: bool,
    force: bool,
    as_json: bool,
    options: Mapping[str, Any],
) -> None:
    """Run jobs with these default options, see `ssl_vc.batch.run.run_batch`, and report what happens."""
    from ssl_vc.batch.run import run_batch

    try:
        results = run_batch(engine, jobs, output, resume, force=force, **options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    out = sys.stdout
    with redirect_stdout(sys.stderr):  # where Ray prints
        report_results(results, len(jobs), unit, output, out, as_json)


def report_results(
    results: "Iterator[Result]", total: int, unit: str, output: Path, out: TextIO, as_json: bool
) -> None:
    """Show the results of a batch, with each kind of warning once, and print a summary.

    Args:
        results: of the jobs.
        total: number of jobs.
        unit: what a job is called.
        output: folder of the outputs.
        out: stdout.
        as_json: print one JSON line per result there, instead of the summary.

    Raises:
        ValueError: some have failed.
    """
    from ssl_vc.batch.run import TABLE

    start, states, warned, seconds = time.perf_counter(), Counter[str](), Counter[str](), 0.0
    try:
        for result in track(results, unit, total, free=lambda result: result.state == "skipped"):
            states[result.state] += 1
            seconds += (result.seconds or 0) if result.state == "done" else 0
            _show(result, warned)
            if as_json:
                tqdm.write(json.dumps(result._asdict()), file=out)
    except KeyboardInterrupt:
        finished = states["done"] + states["skipped"]
        raise StoppedError(
            f"{finished} of {total} {unit}s are done and kept in {output}; the same command with --resume goes on."
        ) from None
    if not as_json:
        counts = ", ".join(f"{states[state]} {state}" for state in ("done", "skipped", "failed"))
        parts = [counts, *([pace(seconds, time.perf_counter() - start)] if seconds else []), str(output / TABLE)]
        parts += [f"warnings: {sum_up(warned)}"] if warned else []
        typer.echo(f"{total} {unit}s: {'; '.join(parts)}", file=out)
    if states["failed"]:
        raise ValueError(f"{states['failed']} of {total} {unit}s failed; see {output / TABLE}.")


def _show(result: "Result", warned: Counter[str]) -> None:
    """Show what went wrong, and the first warning of each kind."""
    if result.error:
        notify("error", f"{result.output}: {result.error}")
    if result.state == "done":
        show_warnings(result.warnings, result.output, warned)


def show_warnings(warnings: Iterable[str], file: str, warned: Counter[str]) -> None:
    """Show those of a file that are the first of their kind, and count each kind."""
    for warning in warnings:
        kind = VARIABLE.sub("...", warning)
        if not warned[kind]:
            notify("warning", f"{file}: {warning}")
        warned[kind] += 1


def sum_up(warned: Counter[str]) -> str:
    """Return how often each kind of warning came, by its beginning."""
    return ", ".join(f"{count} x {kind.partition(';')[0].rstrip('.')}" for kind, count in warned.most_common())
