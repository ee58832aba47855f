"""`ssl-vc batch`: many conversions, resumable."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import ssl_vc
from ssl_vc.cli import arguments
from ssl_vc.cli.arguments import MODEL, VOCODER
from ssl_vc.cli.results import convert_many, local_engine
from ssl_vc.options import MOST_NEIGHBOURS
from ssl_vc.process import prepare_inference


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
    k: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_NEIGHBOURS, help="Default for rows without one; otherwise the matcher's."),
    ] = None,
    blend: Annotated[float | None, typer.Option(help="Default for rows without one.", show_default="1")] = None,
    pitch: Annotated[str | None, typer.Option(help="Default for rows without one.", show_default="match")] = None,
    speed: Annotated[float | None, typer.Option(help="Default for rows without one.", show_default="1")] = None,
    loudness: Annotated[str | None, typer.Option(help="Default for rows without one.", show_default="-16")] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Approximate search (99 % recall), for hours of target audio.")
    ] = False,
    engine: Annotated[EngineName, typer.Option(help="Run locally or on Ray.")] = EngineName.local,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers. Default: 1 locally; on Ray as many as GPUs, or as cores allow.")
    ] = None,
    threads: arguments.Threads = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip finished jobs.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run all jobs, and overwrite existing outputs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per result.")] = False,
) -> None:
    """Run all conversions listed in JOBS.csv, with a report."""
    from ssl_vc.batch.jobs import read_jobs
    from ssl_vc.batch.ray_engine import RayEngine

    values = {"matcher": matcher, "k": k, "blend": blend, "pitch": pitch, "speed": speed, "loudness": loudness}
    options = {name: value for name, value in values.items() if value is not None}
    models: dict[str, Any] = {"vocoder": vocoder, "layer": layer, "approximate": approximate}
    load = partial(ssl_vc.VoiceConverter.from_pretrained, model, device=device, offline=offline, **models)
    prepare_inference(threads)
    local = engine is EngineName.local
    runner = local_engine(load, workers or 1, threads) if local else RayEngine(load, workers, device != "cpu")
    try:
        listed = read_jobs(jobs)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    convert_many(runner, listed, output, "job", resume, force, as_json, options)
