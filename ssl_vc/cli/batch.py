"""`ssl-vc batch`: many conversions."""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

import ssl_vc
from ssl_vc.cli.arguments import MODEL, VOCODER
from ssl_vc.cli.messages import say

if TYPE_CHECKING:  # this loads torch, which `ssl-vc --help` need not wait for
    from ssl_vc.batch.jobs import Result


class EngineName(StrEnum):
    """Where the work is done."""

    local = "local"
    ray = "ray"


def batch(
    jobs: Annotated[
        Path,
        typer.Argument(
            metavar="JOBS.csv",
            help="Columns: source, voice (a file) or target (recordings with ; between), name, matcher, k, blend, "
            "pitch, speed, loudness.",
            readable=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the outputs and the report.")],
    model: Annotated[str, typer.Option(help=MODEL)] = "tiny",
    vocoder: Annotated[str | None, typer.Option(help=VOCODER)] = None,
    layer: Annotated[int | None, typer.Option(help="Layer to match; what fits the vocoder if left out.")] = None,
    matcher: Annotated[str | None, typer.Option(help="For rows that name none.", show_default="auto")] = None,
    k: Annotated[int | None, typer.Option(help="For rows that have none; the matcher's choice if left out.")] = None,
    blend: Annotated[float | None, typer.Option(help="For rows that have none.", show_default="1")] = None,
    pitch: Annotated[str | None, typer.Option(help="For rows that have none.", show_default="keep")] = None,
    speed: Annotated[float | None, typer.Option(help="For rows that have none.", show_default="1")] = None,
    loudness: Annotated[str | None, typer.Option(help="For rows that have none.", show_default="-16")] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Find 99 of 100 neighbours, for targets of hours.")
    ] = False,
    engine: Annotated[EngineName, typer.Option(help="Work here, or on Ray.")] = EngineName.local,
    workers: Annotated[int | None, typer.Option(min=1, help="With --engine ray: how many.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what is there.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Make everything again, whatever is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per result.")] = False,
) -> None:
    """Do every conversion that JOBS.csv lists; a report tells what became of each."""
    from ssl_vc.batch.jobs import read_jobs
    from ssl_vc.batch.ray_engine import OnRay
    from ssl_vc.batch.run import TABLE, Engine, Local, run_batch

    if workers and engine is EngineName.local:
        raise typer.BadParameter("--workers needs --engine ray; the local engine is one process that uses every core")
    given = {"matcher": matcher, "k": k, "blend": blend, "pitch": pitch, "speed": speed, "loudness": loudness}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    models: dict[str, Any] = {"vocoder": vocoder, "layer": layer, "approximate": approximate}
    make = partial(ssl_vc.VoiceConverter.from_pretrained, model, device=device, offline=offline, **models)
    place: Engine = Local(make) if engine is EngineName.local else OnRay(make, workers, device != "cpu")
    try:
        listed = read_jobs(jobs)
        results = run_batch(place, listed, output, resume, force=force, **options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    start, out = time.perf_counter(), sys.stdout
    with redirect_stdout(sys.stderr) if engine is EngineName.ray else nullcontext():  # where Ray says what it likes
        states, seconds = _follow(results, len(listed), out if as_json else None)
    taken = time.perf_counter() - start
    if not as_json:
        counts = ", ".join(f"{states[state]} {state}" for state in ("done", "skipped", "failed"))
        pace = f"{seconds:.1f} s of sound in {taken:.1f} s, {seconds / taken:.1f} x real time"
        typer.echo(f"{len(listed)} jobs: {counts}; {pace}; {output / TABLE}")
    if states["failed"]:
        raise ValueError(f"{states['failed']} of {len(listed)} jobs failed; see {output / TABLE}.")


def _follow(results: "Iterator[Result]", total: int, out: Any) -> tuple[Counter[str], float]:
    """Show what becomes of each job; give how many ended how, and the seconds of sound that were made."""
    states, seconds, said = Counter[str](), 0.0, set[str]()
    with tqdm(total=total, unit="job", disable=None) as bar:
        for result in results:
            states[result.state] += 1
            if result.state != "skipped":
                seconds += result.seconds or 0
            elif not bar.disable:
                bar.initial += 1  # does not count for the rate
            if result.error:
                say("error", f"{result.output}: {result.error}")
            for warning in {*result.warnings} - said:
                say("warning", warning)
                said.add(warning)
            if out:
                tqdm.write(json.dumps(result._asdict()), file=out)
            bar.update()
    return states, seconds
