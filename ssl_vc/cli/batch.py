"""`ssl-vc batch`: many conversions, resumable."""

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
from ssl_vc.cli.messages import notify

if TYPE_CHECKING:  # this loads torch, which `ssl-vc --help` need not wait for
    from ssl_vc.batch.jobs import Result


class EngineName(StrEnum):
    """Where jobs run."""

    local = "local"
    ray = "ray"


def batch(
    jobs: Annotated[
        Path,
        typer.Argument(
            metavar="JOBS.csv",
            help="Columns: source, voice (a file) or target (recordings separated by ;), name, matcher, k, blend, "
            "pitch, speed, loudness.",
            readable=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the outputs and the report.")],
    model: Annotated[str, typer.Option(help=MODEL)] = "tiny",
    vocoder: Annotated[str | None, typer.Option(help=VOCODER)] = None,
    layer: Annotated[int | None, typer.Option(help="Matching layer; by default the one that fits the vocoder.")] = None,
    matcher: Annotated[str | None, typer.Option(help="Default for rows without one.", show_default="auto")] = None,
    k: Annotated[int | None, typer.Option(help="Default for rows without one; otherwise the matcher's.")] = None,
    blend: Annotated[float | None, typer.Option(help="Default for rows without one.", show_default="1")] = None,
    pitch: Annotated[str | None, typer.Option(help="Default for rows without one.", show_default="keep")] = None,
    speed: Annotated[float | None, typer.Option(help="Default for rows without one.", show_default="1")] = None,
    loudness: Annotated[str | None, typer.Option(help="Default for rows without one.", show_default="-16")] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Approximate search (99 % recall), for hours of target audio.")
    ] = False,
    engine: Annotated[EngineName, typer.Option(help="Run locally or on Ray.")] = EngineName.local,
    workers: Annotated[int | None, typer.Option(min=1, help="With --engine ray: number of workers.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip finished jobs.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run all jobs, and overwrite existing outputs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per result.")] = False,
) -> None:
    """Run all conversions listed in JOBS.csv, with a report."""
    from ssl_vc.batch.jobs import read_jobs
    from ssl_vc.batch.ray_engine import RayEngine
    from ssl_vc.batch.run import TABLE, Engine, LocalEngine, run_batch

    if workers and engine is EngineName.local:
        raise typer.BadParameter("--workers needs --engine ray; the local engine is one process that uses every core")
    values = {"matcher": matcher, "k": k, "blend": blend, "pitch": pitch, "speed": speed, "loudness": loudness}
    options: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    models: dict[str, Any] = {"vocoder": vocoder, "layer": layer, "approximate": approximate}
    load = partial(ssl_vc.VoiceConverter.from_pretrained, model, device=device, offline=offline, **models)
    runner: Engine = LocalEngine(load) if engine is EngineName.local else RayEngine(load, workers, device != "cpu")
    try:
        listed = read_jobs(jobs)
        results = run_batch(runner, listed, output, resume, force=force, **options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    start, out = time.perf_counter(), sys.stdout
    with redirect_stdout(sys.stderr) if engine is EngineName.ray else nullcontext():  # Ray prints to stdout
        states, seconds = _follow(results, len(listed), out if as_json else None)
    taken = time.perf_counter() - start
    if not as_json:
        counts = ", ".join(f"{states[state]} {state}" for state in ("done", "skipped", "failed"))
        pace = f"{seconds:.1f} s of audio in {taken:.1f} s, {seconds / taken:.1f} x real time"
        typer.echo(f"{len(listed)} jobs: {counts}; {pace}; {output / TABLE}")
    if states["failed"]:
        raise ValueError(f"{states['failed']} of {len(listed)} jobs failed; see {output / TABLE}.")


def _follow(results: "Iterator[Result]", total: int, out: Any) -> tuple[Counter[str], float]:
    """Show each result; returns the number of jobs per state, and the seconds of audio written."""
    states, seconds, shown = Counter[str](), 0.0, set[str]()
    with tqdm(total=total, unit="job", disable=None) as bar:
        for result in results:
            states[result.state] += 1
            if result.state != "skipped":
                seconds += result.seconds or 0
            elif not bar.disable:
                bar.initial += 1  # does not count towards the rate
            if result.error:
                notify("error", f"{result.output}: {result.error}")
            for warning in {*result.warnings} - shown:
                notify("warning", warning)
                shown.add(warning)
            if out:
                tqdm.write(json.dumps(result._asdict()), file=out)
            bar.update()
    return states, seconds
