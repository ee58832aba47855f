"""`ssl-vc probe`: which layer of an encoder to match."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from ssl_vc.cli.messages import say, say_what_is_logged
from ssl_vc.cli.settings import read_config
from ssl_vc.files import replacing

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from ssl_vc.evaluate.layers import Row

FILES = ("probe.json", "probe.svg")
# of each column what a row calls it, its heading, and its decimals
COLUMNS = (
    ("dim", "dim", 0),
    ("phones", "phones", 1),
    ("phones_with_silence", "+silence", 1),
    ("speakers", "speakers", 1),
    ("speakers_by_frame", "by frame", 1),
    ("kept", "kept", 1),
    ("kept_across", "across", 1),
    ("distance", "mel dB", 2),
    ("seconds", "seconds", 1),
)
CURVES = {
    "kept_across": "kept, other voice",
    "kept": "kept, own voice",
    "phones": "phones, linear",
    "speakers": "speakers, by clip",
    "speakers_by_frame": "speakers, by frame",
}


def probe(
    config: Annotated[Path, typer.Argument(help="A YAML file, such as configs/probe/dev.yaml.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, such as encoder=my/model.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for probe.json and probe.svg.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per row.")] = False,
) -> None:
    """Measure what each layer of an encoder knows of phones and speakers, in percent, and recommend one to match."""
    from pretrain.probing.probe import ProbeConfig, chances
    from ssl_vc.evaluate.layers import hear_material, measure, recommended

    wanted = read_config(config, settings or [], ProbeConfig)
    existing = [output / name for name in FILES if (output / name).exists()] if output else []
    if existing and not force:
        raise ValueError(f"{existing[0]} exists; --force overwrites it.")
    say_what_is_logged("pretrain")
    if output:
        output.mkdir(parents=True, exist_ok=True)
    rows = []
    with TemporaryDirectory(prefix=".frames-", dir=output) as folder:  # beside the output there is room for gigabytes
        material = hear_material(wanted, Path(folder), lambda clips, split: tqdm(clips, split, disable=None))
        guessed = {name: round(100 * share, 2) for name, share in chances(material.test).items()}
        say("info", "by guessing: " + ", ".join(f"{name} {share:.1f} %" for name, share in guessed.items()))
        if not as_json:
            typer.echo(_line("features", [heading for _, heading, _ in COLUMNS]))
        for row in measure(material, device=wanted.device, seed=wanted.seed):
            rows.append(row)
            typer.echo(json.dumps(row._asdict()) if as_json else _line(row.features, _cells(row)))
    best = recommended(rows)
    if output:
        facts = {"config": asdict(wanted), "guessing": guessed, "recommended": best.layer if best else None}
        table = json.dumps(facts | {"rows": [row._asdict() for row in rows]}, indent=1) + "\n"
        for name, text in zip(FILES, (table, _picture(wanted.encoder, rows)), strict=True):
            with replacing(output / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
    if best:
        say("recommended", f"layer {best.layer}, which keeps {best.kept_across:.1f} % of phones in another's voice")
    else:
        say("warning", "no layer is recommended: to see what is kept in another's voice takes two speakers")


def _cells(row: "Row") -> list[str]:
    values = [getattr(row, name) for name, _, _ in COLUMNS]
    return [
        "-" if value is None else f"{value:.{digits}f}" for value, (*_, digits) in zip(values, COLUMNS, strict=True)
    ]


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<9}" + "".join(f"{cell:>9}" for cell in cells)


def _picture(encoder: str, rows: "Sequence[Row]") -> str:
    """Draw what the layers reach, and as a level line how far a probe of cepstra names phones."""
    from ssl_vc.html.charts import lines_svg

    layers = [(row.layer, row) for row in rows if row.layer is not None]
    curves = {
        heading: [(layer, math.nan if (value := getattr(row, name)) is None else value) for layer, row in layers]
        for name, heading in CURVES.items()
    }
    level = [(layer, each.phones) for each in rows if each.features == "mfcc" for layer, _ in layers]
    return lines_svg(curves | {"phones, linear, of mfcc": level}, f"Layers of {encoder}", "layer", "percent")
