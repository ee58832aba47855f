"""`ssl-vc label`: clips to numbers that an encoder learns to predict."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from ssl_vc.cli.messages import say_what_is_logged

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from pretrain.data.manifest import Clip, Samples
    from pretrain.labels.features import Features


def label(
    clips: Annotated[Path, typer.Argument(help="A folder of sound files, or a table of them.", readable=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the labels.", show_default=False)],
    of: Annotated[str, typer.Option(help="mfcc, or an encoder: tiny, a folder, a .pt file or a hub id.")] = "mfcc",
    layer: Annotated[int | None, typer.Option(help="Of the encoder; its own choice if left out.")] = None,
    less_mean: Annotated[
        bool, typer.Option("--less-mean", help="Less each clip's mean, as `train-units labels=OUTPUT` takes them.")
    ] = False,
    clusters: Annotated[int, typer.Option(help="How many different labels.", min=2, max=2**16)] = 100,
    hours: Annotated[float, typer.Option(help="How much of CLIPS to fit the clusters on.", min=0.001)] = 10.0,
    split: Annotated[str | None, typer.Option(help="Rows of the table to fit on and label.")] = None,
    also_split: Annotated[str | None, typer.Option(help="Rows to label, too.")] = None,
    also: Annotated[Path | None, typer.Option(help="Other clips to label, too.", readable=False)] = None,
    model: Annotated[Path | None, typer.Option(help="Labels whose clusters to use instead of fitting.")] = None,
    phones: Annotated[Path | None, typer.Option(help="Phone alignments to judge the labels by.")] = None,
    seed: Annotated[int, typer.Option(help="Of what is random.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace labels that were made otherwise.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Cluster frames of CLIPS, write each frame's cluster to OUTPUT, and print how good these labels are.

    Labels that are there already, of the same clips and made in the same way, are only judged anew.
    """
    if of == "mfcc" and (layer is not None or less_mean):
        raise typer.BadParameter("--layer and --less-mean go with an encoder; say which with --of")
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; -o wants a folder")
    from pretrain.data.manifest import decode, read_manifest
    from pretrain.labels.align import Phones
    from pretrain.labels.labels import Labels, make_labels

    say_what_is_logged("pretrain")
    kmeans = Labels.open(model).kmeans if model else None
    aligned = Phones.open(phones) if phones else None
    fit_on = read_manifest(clips, split)
    others = read_manifest(clips, also_split) if also_split else []
    others += read_manifest(also) if also else []
    start = time.perf_counter()
    with tqdm(unit="clip", disable=None) as bar:

        def read(clip: "Clip") -> "Samples":
            bar.update()
            return decode(clip.path)

        made = make_labels(
            [*fit_on, *others],
            output,
            _features(of, layer, device, less_mean),
            clusters=clusters,
            seed=seed,
            fit_hours=hours,
            fit_on=fit_on,
            model=kmeans,
            keep=not force,
            read=read,
        )
    result = {"output": str(output), "clusters": made.clusters, **made.facts, **made.quality(aligned)}
    taken = time.perf_counter() - start
    typer.echo(json.dumps({**result, "seconds": round(taken, 3)}) if as_json else _line(result, taken))


def _features(of: str, layer: int | None, device: str, less_mean: bool) -> "Features":
    from pretrain.labels.features import LayerFeatures, MfccFeatures
    from ssl_vc.device import choose_device
    from ssl_vc.hub.registry import load_encoder

    if of == "mfcc":
        return MfccFeatures()
    encoder = load_encoder(of)
    layer = encoder.config.matching_layer if layer is None else layer
    if layer is None:
        raise ValueError(f"no layer is recommended for this encoder; choose --layer 0 to {encoder.config.depth}.")
    return LayerFeatures(encoder, layer, choose_device(device), less_mean=less_mean)


def _line(result: dict[str, object], taken: float) -> str:
    facts = {name: value for name, value in result.items() if isinstance(value, int | float)}
    judged = f"{facts['dead']:.0f} unused, perplexity {facts['perplexity']:.1f}"
    if "pnmi" in facts:
        judged += f"; phone purity {facts['phone_purity']:.3f}, cluster purity {facts['cluster_purity']:.3f}"
        judged += f", PNMI {facts['pnmi']:.3f}"
    hours = facts["frames"] / 180_000
    return (
        f"{result['output']}: {facts['clips']} clips, {hours:.2f} h, {facts['clusters']} clusters, {judged}; "
        f"{taken:.0f} s"
    )
