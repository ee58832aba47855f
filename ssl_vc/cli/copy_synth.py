"""`ssl-vc copy-synth`: analysis and resynthesis, by one pair of features and vocoder or by all."""

import json
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

import ssl_vc
from ssl_vc.cli import arguments
from ssl_vc.cli.arguments import refuse_overwriting
from ssl_vc.cli.messages import pace
from ssl_vc.files import printable, replacing
from ssl_vc.tables import format_csv

if TYPE_CHECKING:
    from ssl_vc.evaluate.copy_grid import CopyResult
    from ssl_vc.html.page import Column

FILES = ("table.json", "table.csv", "index.html")


class Features(StrEnum):
    """Features of the analysis."""

    mel = "mel"
    mfcc = "mfcc"
    world = "world"
    ssl = "ssl"
    spoken = "spoken"
    units = "units"


class Vocoder(StrEnum):
    """Vocoder of the resynthesis."""

    griffin_lim = "griffin-lim"
    world = "world"
    hifigan = "hifigan"
    vocos = "vocos"
    bigvgan = "bigvgan"
    unit_hifigan = "unit-hifigan"


def copy_synth(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="An audio file.", readable=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The audio file to write; with --grid a folder.", show_default=False)
    ],
    features: Annotated[Features | None, typer.Option(help="Features of the analysis.", show_default="mel")] = None,
    vocoder: Annotated[
        Vocoder | None, typer.Option(help="Vocoder of the resynthesis.", show_default="griffin-lim")
    ] = None,
    every: Annotated[
        bool, typer.Option("--grid", help="Run every compatible pair, and write a table and a page.")
    ] = False,
    weights: Annotated[
        list[str] | None, typer.Option(help="A trained vocoder: a folder, a file, a hub id; may be repeated.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Encoder of ssl and spoken features, see extract --model.")] = "tiny",
    layer: Annotated[int | None, typer.Option(help="Encoder layer. Default: what the vocoder reads.")] = None,
    device: arguments.Device = "auto",
    force: arguments.Force = False,
    as_json: arguments.Json = False,
) -> None:
    """Analyse INPUT and resynthesise it, to hear what features and vocoders lose."""
    settings = {"weights": weights, "encoder": encoder, "layer": layer, "device": device}
    if every:
        if features or vocoder:
            raise typer.BadParameter("--grid runs every pair; leave out --features and --vocoder")
        _run_grid(source, output, settings, force, as_json)
    else:
        pair = (features or Features.mel).value, (vocoder or Vocoder.griffin_lim).value
        _run_pair(source, output, pair, settings, force, as_json)


def _run_pair(
    source: Path, output: Path, pair: tuple[str, str], settings: dict[str, Any], force: bool, as_json: bool
) -> None:
    from ssl_vc.audio import CONTAINERS  # these load torch, which `ssl-vc --help` does not need
    from ssl_vc.copysynth import Routes, check_pair

    try:
        check_pair(*pair)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if output.is_dir() or output.suffix.lower() not in CONTAINERS:
        raise typer.BadParameter(f"{output} is not an audio file name; end it in one of {', '.join(CONTAINERS)}")
    if not output.parent.is_dir():
        raise ValueError(f"the folder {output.parent} does not exist; create it first.")
    refuse_overwriting([output], force)
    start = time.perf_counter()
    original = ssl_vc.read(source)  # raises before a model is loaded
    route = Routes(**settings)(*pair)
    wav, rate = route(original), route.sample_rate
    elapsed = time.perf_counter() - start
    ssl_vc.write(output, wav, rate)
    seconds = len(wav) / rate
    result = {"input": printable(source), "output": printable(output), "features": pair[0], "vocoder": pair[1]}
    report: dict[str, Any] = result | {"sample_rate": rate, "samples": len(wav), "seconds": round(elapsed, 3)}
    line = f"{source} -> {output}: {' × '.join(pair)}, {pace(seconds, elapsed)}"
    typer.echo(json.dumps(report) if as_json else line)


def _run_grid(source: Path, folder: Path, settings: dict[str, Any], force: bool, as_json: bool) -> None:
    from ssl_vc.copysynth import PAIRS
    from ssl_vc.evaluate.copy_grid import COLUMNS, CopyResult, copy_grid, render_page

    if folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"{folder} is a file; with --grid, -o wants a folder")
    possible = [CopyResult().file, *(CopyResult(*pair).file for pair in PAIRS)]
    refuse_overwriting([folder / name for name in (*possible, *FILES)], force)
    copies = []
    with tqdm(total=len(possible), unit="pair", disable=None) as bar:
        for copy in copy_grid(source, **settings):
            folder.mkdir(parents=True, exist_ok=True)  # not before the audio has been read
            if copy.wav is not None:
                ssl_vc.write(folder / copy.file, copy.wav, copy.sample_rate)
            copies.append(copy)
            bar.update()
            if as_json:
                tqdm.write(json.dumps(copy.record))
    for name in {*possible} - {copy.file for copy in copies if copy.wav is not None}:
        (folder / name).unlink(missing_ok=True)  # of an earlier grid, which --force replaces
    records = [copy.record for copy in copies]
    contents = (
        json.dumps({"input": printable(source), "sounds": records}, indent=1),
        format_csv(list(records[0]), records),
        render_page(printable(source.name), copies),
    )
    for name, content in zip(FILES, contents, strict=True):
        with replacing(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8", newline="")
    if not as_json:
        typer.echo(_table(copies, COLUMNS))
        typer.echo(f"\n{source} -> {folder / 'index.html'}")


def _table(copies: "Sequence[CopyResult]", columns: "Sequence[Column]") -> str:
    """Return aligned text: the copies with their metrics, then the missing ones."""
    lines = [["", *(column.heading for column in columns)]]
    lines += [
        [copy.name, *(column.text(copy.values.get(column.name)) for column in columns)]
        for copy in copies
        if copy.wav is not None
    ]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    text = []
    for name, *cells in lines:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        text.append("  ".join([name.ljust(widths[0]), *numbers]))
    for copy in copies:
        if copy.wav is None:
            text += ["", f"missing: {copy.name}: {copy.reason}"] + ([f"  {copy.command}"] if copy.command else [])
    return "\n".join(text)
