"""`ssl-vc label`: k-means labels for pretraining."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from ssl_vc.cli.messages import log_to_stderr
from ssl_vc.cli.settings import working_in

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from pretrain.data.manifest import Clip, Samples
    from pretrain.labels.features import Features


def label(
    clips: Annotated[Path, typer.Argument(help="Folder of audio files, or a manifest.", readable=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder.", show_default=False)],
    of: Annotated[
        str, typer.Option(help="Features: mfcc, or an encoder: tiny, a folder, a .pt file or a hub id.")
    ] = "mfcc",
    layer: Annotated[int | None, typer.Option(help="Layer of the encoder; the recommended one by default.")] = None,
    less_mean: Annotated[
        bool, typer.Option("--less-mean", help="Subtract each clip's mean, as `train-units labels=OUTPUT` requires.")
    ] = False,
    clusters: Annotated[int, typer.Option(help="Number of clusters.", min=2, max=2**16)] = 100,
    hours: Annotated[float, typer.Option(help="Amount of CLIPS to fit k-means on.", min=0.001)] = 10.0,
    split: Annotated[str | None, typer.Option(help="Split of the manifest to fit on and label.")] = None,
    also_split: Annotated[str | None, typer.Option(help="Further split to label.")] = None,
    also: Annotated[Path | None, typer.Option(help="Further folder or manifest to label.", readable=False)] = None,
    model: Annotated[Path | None, typer.Option(help="Existing labels whose k-means to apply.")] = None,
    phones: Annotated[Path | None, typer.Option(help="Phone alignments, for phone purity and PNMI.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace labels with other settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Cluster the frames of CLIPS, write the cluster of each frame to OUTPUT, and print the quality of these labels.

    Existing labels of the same clips with the same settings are only evaluated again.
    """
    if of == "mfcc" and (layer is not None or less_mean):
        raise typer.BadParameter("--layer and --less-mean need an encoder; choose one with --of")
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; -o needs a folder")
    from pretrain.data.manifest import decode, read_manifest
    from pretrain.labels.align import PhoneAlignments
    from pretrain.labels.kmeans_labels import KMeansLabels, label_clips

    log_to_stderr("pretrain")
    kmeans = KMeansLabels.open(model).kmeans if model else None
    aligned = PhoneAlignments.open(phones) if phones else None
    fit_on = read_manifest(clips, split)
    further = read_manifest(clips, also_split) if also_split else []
    further += read_manifest(also) if also else []
    start = time.perf_counter()
    with working_in(output, beside=True), tqdm(unit="clip", disable=None) as bar:

        def read(clip: "Clip") -> "Samples":
            bar.update()
            return decode(clip.path)

        labels = label_clips(
            [*fit_on, *further],
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
    result = {"output": str(output), "clusters": labels.clusters, **labels.facts, **labels.evaluate(aligned)}
    elapsed = time.perf_counter() - start
    typer.echo(json.dumps({**result, "seconds": round(elapsed, 3)}) if as_json else _line(result, elapsed))


def _features(of: str, layer: int | None, device: str, less_mean: bool) -> "Features":
    from pretrain.labels.features import LayerFeatures, MfccFeatures
    from ssl_vc.device import choose_device
    from ssl_vc.hub.registry import load_encoder

    if of == "mfcc":
        return MfccFeatures()
    encoder = load_encoder(of)
    layer = encoder.config.matching_layer if layer is None else layer
    if layer is None:
        raise ValueError(f"this encoder has no recommended layer; choose --layer 0 to {encoder.config.depth}.")
    return LayerFeatures(encoder, layer, choose_device(device), less_mean=less_mean)


def _line(result: dict[str, object], elapsed: float) -> str:
    from pretrain.encoder.framing import FRAME_RATE

    values = {name: value for name, value in result.items() if isinstance(value, int | float)}
    quality = f"{values['dead']:.0f} unused, perplexity {values['perplexity']:.1f}"
    if "pnmi" in values:
        quality += f"; phone purity {values['phone_purity']:.3f}, cluster purity {values['cluster_purity']:.3f}"
        quality += f", PNMI {values['pnmi']:.3f}"
    hours = values["frames"] / (3600 * FRAME_RATE)
    return (
        f"{result['output']}: {values['clips']} clips, {hours:.2f} h, {values['clusters']} clusters, {quality}; "
        f"{elapsed:.0f} s"
    )
