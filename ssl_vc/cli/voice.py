"""`ssl-vc voice`: portable voices."""

import json
from pathlib import Path
from typing import Annotated

import typer

import ssl_vc
from ssl_vc.cli import arguments
from ssl_vc.cli.arguments import check_audio, parse_loudness, refuse_existing, refuse_inputs, stem_of
from ssl_vc.cli.messages import notify
from ssl_vc.cli.multi_value import MultiValueCommand

voice = typer.Typer(help="Build, inspect and mix voices.", no_args_is_help=True)


@voice.command(cls=MultiValueCommand)
def build(
    recordings: arguments.Recordings,
    output: arguments.VoiceOutput,
    name: Annotated[str | None, typer.Option(help="Name of the voice. Default: the file's.")] = None,
    note: Annotated[str, typer.Option(help="Licence, consent and the like, for users of the voice.")] = "",
    model: arguments.Model = "tiny",
    vocoder: arguments.Vocoder = None,
    layer: arguments.QueryLayer = None,
    trim: Annotated[bool, typer.Option("--trim/--no-trim", help="Trim silence at both ends.")] = True,
    loudness: Annotated[str, typer.Option(help="Normalise each recording to this level in LUFS, or keep.")] = "keep",
    device: arguments.Device = "auto",
    offline: arguments.Offline = False,
    force: arguments.Force = False,
    as_json: arguments.Json = False,
) -> None:
    """Build a voice from recordings of one speaker."""
    refuse_existing(output, force, "anna.voice")
    refuse_inputs([output], recordings)
    level = parse_loudness(loudness)
    check_audio(recordings[0], speech=True)
    converter = ssl_vc.VoiceConverter.from_pretrained(
        model, vocoder=vocoder, layer=layer, device=device, offline=offline
    )
    built = converter.enroll(
        recordings, stem_of(output) if name is None else name, trim=trim, loudness=level, note=note
    )
    built.save(output)
    _report(built, output, as_json)


@voice.command()
def info(
    file: arguments.VoiceFile,
    source: Annotated[Path | None, typer.Option(help="A source, to measure how much of it the voice covers.")] = None,
    model: Annotated[str, typer.Option(help="The voice's model; needed with --source.")] = "tiny",
    device: arguments.Device = "auto",
    as_json: arguments.Json = False,
) -> None:
    """Report contents, expected quality and provenance of a voice."""
    loaded = ssl_vc.Voice.load(file)
    coverage = None
    if source is not None:
        from ssl_vc.voice import quality  # loads torch, which `ssl-vc --help` does not need

        extractor = ssl_vc.Extractor.from_pretrained(
            model, loaded.spec.layer, normalized=loaded.spec.normalized, device=device
        )
        extractor.spec.require(loaded.spec, f"the voice {loaded.name!r}")
        distance = loaded.pool(extractor.device).nearest(extractor(source), 1).distance[:, 0]
        coverage = quality.coverage(distance.cpu(), loaded.findings)
    _report(loaded, file, as_json, coverage)


@voice.command(cls=MultiValueCommand)
def mix(
    files: Annotated[list[Path], typer.Argument(metavar="A B...", help="Two or more voice files.", readable=False)],
    output: arguments.VoiceOutput,
    weights: Annotated[
        list[float] | None, typer.Option(metavar="W...", help="One weight per voice. Default: equal weights.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the mixture. Default: weights and names.")] = "",
    force: arguments.Force = False,
    as_json: arguments.Json = False,
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
    _report(mixed, output, as_json)


def _report(voice: "ssl_vc.Voice", file: Path, as_json: bool, coverage: float | None = None) -> None:
    from ssl_vc.voice import quality

    report = {"file": str(file), **quality.describe(voice)}
    if coverage is not None:
        report["coverage"] = round(coverage, 4)
    if as_json:
        typer.echo(json.dumps(report))
        return
    warnings = report.pop("warnings", [])
    for key, value in report.items():
        plain = isinstance(value, str) and value.isprintable()
        typer.echo(f"{key}: {value if plain else json.dumps(value)}")
    for warning in warnings:
        notify("warning", warning)
