"""`ssl-vc copy-synth`: features, and sound from them again, by one pair or by all."""

import csv
import io
import json
import time
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

import ssl_vc
from ssl_vc.files import printable, replacing

if TYPE_CHECKING:
    from ssl_vc.evaluate.copy_grid import Copy
    from ssl_vc.html.page import Column

FILES = ("table.json", "table.csv", "index.html")


class Features(StrEnum):
    """What sound is taken apart into."""

    mel = "mel"
    mfcc = "mfcc"
    world = "world"
    ssl = "ssl"
    spoken = "spoken"
    units = "units"


class Vocoder(StrEnum):
    """What makes sound of features."""

    griffin_lim = "griffin-lim"
    world = "world"
    hifigan = "hifigan"
    vocos = "vocos"
    bigvgan = "bigvgan"
    unit_hifigan = "unit-hifigan"


def copy_synth(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A sound file.", readable=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The sound file to write; with --grid a folder.", show_default=False)
    ],
    features: Annotated[
        Features | None, typer.Option(help="What the sound is taken apart into.", show_default="mel")
    ] = None,
    vocoder: Annotated[
        Vocoder | None, typer.Option(help="What makes sound of it again.", show_default="griffin-lim")
    ] = None,
    every: Annotated[bool, typer.Option("--grid", help="Make every pair that fits, a table and a page.")] = False,
    weights: Annotated[
        list[str] | None, typer.Option(help="A trained vocoder: a folder, a file, a hub id; may be repeated.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Whose frames ssl and spoken are, see extract --model.")] = "tiny",
    layer: Annotated[int | None, typer.Option(help="Which layer; the one that the vocoder reads if left out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per result.")] = False,
) -> None:
    """Take INPUT apart into features and make sound of them again, to hear what features and vocoders lose."""
    settings = {"weights": weights, "encoder": encoder, "layer": layer, "device": device}
    if every:
        if features or vocoder:
            raise typer.BadParameter("--grid makes every pair; leave out --features and --vocoder")
        _grid(source, output, settings, force, as_json)
    else:
        pair = (features or Features.mel).value, (vocoder or Vocoder.griffin_lim).value
        _one(source, output, pair, settings, force, as_json)


def _one(
    source: Path, output: Path, pair: tuple[str, str], settings: dict[str, Any], force: bool, as_json: bool
) -> None:
    from ssl_vc.audio import CONTAINERS  # these load torch, which `ssl-vc --help` need not wait for
    from ssl_vc.copysynth import Routes, check_pair

    try:
        check_pair(*pair)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if output.is_dir() or output.suffix.lower() not in CONTAINERS:
        raise typer.BadParameter(f"{output} names no sound file; end it in one of {', '.join(CONTAINERS)}")
    if not output.parent.is_dir():
        raise ValueError(f"the folder {output.parent} does not exist; create it first.")
    _refuse_existing([output], force)
    start = time.perf_counter()
    original = ssl_vc.read(source)  # before a model is loaded for nothing
    route = Routes(**settings)(*pair)
    wav, rate = route(original), route.sample_rate
    taken = time.perf_counter() - start
    ssl_vc.write(output, wav, rate)
    seconds = len(wav) / rate
    result = {"input": printable(source), "output": printable(output), "features": pair[0], "vocoder": pair[1]}
    facts: dict[str, Any] = result | {"sample_rate": rate, "samples": len(wav), "seconds": round(taken, 3)}
    line = f"{source} -> {output}: {' × '.join(pair)}, {seconds:.2f} s at {rate} Hz, {seconds / taken:.1f} x real time"
    typer.echo(json.dumps(facts) if as_json else line)


def _grid(source: Path, folder: Path, settings: dict[str, Any], force: bool, as_json: bool) -> None:
    from ssl_vc.copysynth import PAIRS
    from ssl_vc.evaluate.copy_grid import COLUMNS, Copy, grid, page

    if folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"{folder} is a file; with --grid, -o wants a folder")
    possible = [Copy().file, *(Copy(*pair).file for pair in PAIRS)]
    _refuse_existing([folder / name for name in (*possible, *FILES)], force)
    copies = []
    with tqdm(total=len(possible), unit="sound", disable=None) as bar:
        for copy in grid(source, **settings):
            folder.mkdir(parents=True, exist_ok=True)  # not before the sound has been read
            if copy.wav is not None:
                ssl_vc.write(folder / copy.file, copy.wav, copy.sample_rate)
            copies.append(copy)
            bar.update()
            if as_json:
                tqdm.write(json.dumps(copy.facts))
    for name in {*possible} - {copy.file for copy in copies if copy.wav is not None}:
        (folder / name).unlink(missing_ok=True)  # of an earlier grid, that --force replaces
    facts = [copy.facts for copy in copies]
    contents = (
        json.dumps({"input": printable(source), "sounds": facts}, indent=1),
        _csv(facts),
        page(printable(source.name), copies),
    )
    for name, content in zip(FILES, contents, strict=True):
        with replacing(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8", newline="")
    if not as_json:
        typer.echo(_table(copies, COLUMNS))
        typer.echo(f"\n{source} -> {folder / 'index.html'}")


def _refuse_existing(paths: Iterable[Path], force: bool) -> None:
    existing = [path for path in paths if path.exists()]
    if existing and not force:
        raise ValueError(f"{existing[0]} exists; --force overwrites it.")


def _csv(facts: Sequence[dict[str, Any]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(facts[0]))
    writer.writeheader()
    writer.writerows(facts)
    return file.getvalue()


def _table(copies: "Sequence[Copy]", columns: "Sequence[Column]") -> str:
    """Everything as aligned text: the copies with their measures, then what is missing."""
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
