"""`ssl-vc probe`: choose the matching layer of an encoder."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_vc.cli.messages import log_to_stderr, notify, track
from ssl_vc.cli.settings import Settings, read_config
from ssl_vc.files import replacing

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from ssl_vc.evaluate.layers import LayerResult

FILES = ("probe.json", "probe.svg")
# field, heading and decimals of each column
COLUMNS = (
    ("dim", "dim", 0),
    ("phones", "phones", 1),
    ("phones_with_silence", "+silence", 1),
    ("speakers", "speakers", 1),
    ("speakers_by_frame", "by frame", 1),
    ("kept", "kept", 1),
    ("kept_across", "across", 1),
    ("distance", "mel dB", 2),
    ("recall", "recall", 1),
    ("same_third", "third", 1),
    ("seconds", "seconds", 1),
)
CURVES = {
    "kept_across": "phones kept, other speaker",
    "kept": "phones kept, same speaker",
    "phones": "phones, linear probe",
    "speakers": "speakers, per clip",
    "speakers_by_frame": "speakers, per frame",
}


def probe(
    config: Annotated[Path, typer.Argument(help="A recipe by name, of those in configs/probe, or a YAML file.")],
    settings: Settings = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for probe.json and probe.svg.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per row.")] = False,
) -> None:
    """Probe each layer of an encoder for phones and speakers, in percent, and recommend one to match."""
    from pretrain.probing.probe import ProbeConfig, chance_levels
    from ssl_vc.evaluate.layers import prepare_probe_data, probe_layers, recommend_layer

    options = read_config(config, settings or [], ProbeConfig, "probe")
    existing = [output / name for name in FILES if (output / name).exists()] if output else []
    if existing and not force:
        raise ValueError(f"{existing[0]} exists; --force overwrites it.")
    log_to_stderr("pretrain")
    if output:
        output.mkdir(parents=True, exist_ok=True)
    rows = []
    with TemporaryDirectory(prefix=".frames-", dir=output) as folder:  # may need gigabytes, so not in /tmp
        data = prepare_probe_data(options, Path(folder), lambda clips, split: track(clips, "clip", label=split))
        chance = {name: round(100 * share, 2) for name, share in chance_levels(data.test).items()}
        notify("info", "chance level: " + ", ".join(f"{name} {share:.1f} %" for name, share in chance.items()))
        if not as_json:
            typer.echo(_line("features", [heading for _, heading, _ in COLUMNS]))
        for row in probe_layers(data, device=options.device, seed=options.seed):
            rows.append(row)
            typer.echo(json.dumps(row._asdict()) if as_json else _line(row.features, _cells(row)))
    best = recommend_layer(rows)
    if output:
        facts = {"config": asdict(options), "guessing": chance, "recommended": best.layer if best else None}
        table = json.dumps(facts | {"rows": [row._asdict() for row in rows]}, indent=1) + "\n"
        for name, text in zip(FILES, (table, _chart(options.encoder, rows)), strict=True):
            with replacing(output / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
    if best:
        notify("recommended", f"layer {best.layer}, which preserves {best.kept_across:.1f} % of phones across speakers")
    else:
        notify("warning", "no layer is recommended: that needs clips of at least two speakers")


def _cells(row: "LayerResult") -> list[str]:
    values = [getattr(row, name) for name, _, _ in COLUMNS]
    return [
        "-" if value is None else f"{value:.{digits}f}" for value, (*_, digits) in zip(values, COLUMNS, strict=True)
    ]


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<9}" + "".join(f"{cell:>9}" for cell in cells)


def _chart(encoder: str, rows: "Sequence[LayerResult]") -> str:
    """Chart the layers, with the phone accuracy of cepstra as a level line."""
    from ssl_vc.html.charts import lines_svg

    layers = [(row.layer, row) for row in rows if row.layer is not None]
    curves = {
        heading: [(layer, math.nan if (value := getattr(row, name)) is None else value) for layer, row in layers]
        for name, heading in CURVES.items()
    }
    level = [(layer, each.phones) for each in rows if each.features == "mfcc" for layer, _ in layers]
    return lines_svg(curves | {"phones, linear probe, MFCC": level}, f"Layers of {encoder}", "layer", "percent")
