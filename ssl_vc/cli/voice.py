"""`ssl-vc voice`: portable voices."""

import json
from pathlib import Path
from typing import Annotated

import typer

import ssl_vc
from ssl_vc.cli.arguments import MODEL, VOCODER, name_of, number_or, refuse_existing, refuse_inputs
from ssl_vc.cli.many import TakesMany
from ssl_vc.cli.messages import say

voice = typer.Typer(help="Build, inspect and mix voices.", no_args_is_help=True)

Output = Annotated[Path, typer.Option("--output", "-o", help="The voice file.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON line.")]


@voice.command(cls=TakesMany)
def build(
    recordings: Annotated[list[Path], typer.Argument(metavar="REF...", help="Sound files of one speaker, or folders.")],
    output: Output,
    name: Annotated[str | None, typer.Option(help="How it is called; the file's name if left out.")] = None,
    note: Annotated[str, typer.Option(help="Licence, consent: what a user of the voice should know.")] = "",
    model: Annotated[str, typer.Option(help=MODEL)] = "tiny",
    vocoder: Annotated[str | None, typer.Option(help=VOCODER)] = None,
    layer: Annotated[int | None, typer.Option(help="Layer to match; what fits the vocoder if left out.")] = None,
    trim: Annotated[bool, typer.Option("--trim/--no-trim", help="Cut off silence at both ends.")] = True,
    loudness: Annotated[str, typer.Option(help="Bring each recording to so many LUFS first, or keep.")] = "keep",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make a voice of recordings of one speaker."""
    refuse_existing(output, force, "anna.voice")
    refuse_inputs([output], recordings)
    level = number_or(loudness, "keep")
    if not recordings[0].is_dir():
        ssl_vc.read(recordings[0], speech=True)  # says what is wrong before a model is loaded for nothing
    converter = ssl_vc.VoiceConverter.from_pretrained(
        model, vocoder=vocoder, layer=layer, device=device, offline=offline
    )
    made = converter.enroll(
        recordings,
        name_of(output) if name is None else name,
        trim=trim,
        loudness=level if isinstance(level, float) else None,
        note=note,
    )
    made.save(output)
    _tell(made, output, as_json)


@voice.command()
def info(
    file: Annotated[Path, typer.Argument(help="A voice file.", readable=False)],
    source: Annotated[Path | None, typer.Option(help="A sound to convert: how much of it the voice covers.")] = None,
    model: Annotated[str, typer.Option(help="The voice's model, where --source is given.")] = "tiny",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    as_json: Json = False,
) -> None:
    """Say what a voice holds, how good it is likely to be, and what made it."""
    known = ssl_vc.Voice.load(file)
    coverage = None
    if source is not None:
        from ssl_vc.voice import quality as report  # loads torch, which `ssl-vc --help` need not wait for

        extractor = ssl_vc.Extractor.from_pretrained(
            model, known.spec.layer, normalized=known.spec.normalized, device=device
        )
        extractor.spec.require(known.spec, f"the voice {known.name!r}")
        distance = known.pool(extractor.device).nearest(extractor(source), 1).distance[:, 0]
        coverage = report.coverage(distance.cpu(), known.findings)
    _tell(known, file, as_json, coverage)


@voice.command(cls=TakesMany)
def mix(
    files: Annotated[list[Path], typer.Argument(metavar="A B...", help="Two or more voice files.", readable=False)],
    output: Output,
    weights: Annotated[
        list[float] | None, typer.Option(metavar="W...", help="A weight for each; alike if left out.")
    ] = None,
    name: Annotated[str, typer.Option(help="How it is called.")] = "",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Mix voices into a new one."""
    weights = weights or [1.0] * len(files)
    if len(weights) != len(files):
        raise typer.BadParameter(f"{len(files)} voices need as many weights, not {len(weights)}")
    refuse_existing(output, force, "anna.voice")
    refuse_inputs([output], files)
    parts = [(ssl_vc.Voice.load(file), weight) for file, weight in zip(files, weights, strict=True)]
    mixed = ssl_vc.Voice.mix(parts, name)
    mixed.save(output)
    _tell(mixed, output, as_json)


def _tell(voice: "ssl_vc.Voice", file: Path, as_json: bool, coverage: float | None = None) -> None:
    from ssl_vc.voice import quality as report

    facts = {"file": str(file), **report.describe(voice)}
    if coverage is not None:
        facts["coverage"] = round(coverage, 4)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    warnings = facts.pop("warnings", [])
    for key, value in facts.items():
        plain = isinstance(value, str) and value.isprintable()
        typer.echo(f"{key}: {value if plain else json.dumps(value)}")
    for warning in warnings:
        say("warning", warning)
