"""`ssl-vc prematch`: training frames for vocoders, as they will be in conversions."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import ssl_vc
from ssl_vc.cli import arguments
from ssl_vc.cli.messages import log_to_stderr, track
from ssl_vc.cli.settings import working_in


class Features(StrEnum):
    """Features that the vocoder reads."""

    spoken = "spoken"
    ssl = "ssl"


def prematch(
    clips: Annotated[Path, typer.Argument(help="A folder of audio files, or a manifest.", readable=False)],
    output: arguments.OutputFolder,
    split: Annotated[str | None, typer.Option(help="Rows of the manifest.")] = None,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Skip clips whose key starts with this; may be repeated.")
    ] = None,
    model: arguments.Encoder = "tiny",
    layer: arguments.QueryLayer = None,
    features: Annotated[
        Features, typer.Option(help="Features that the vocoder reads: ssl, or spoken (disentangled), see README.")
    ] = Features.spoken,
    k: Annotated[tuple[int, int], typer.Option(help="Range of the number of neighbours.")] = (1, 8),
    blend: Annotated[
        tuple[float, float], typer.Option(help="Range of the weight of matched frames in blended clips.")
    ] = (0.0, 1.0),
    mixed: Annotated[float, typer.Option(help="Share of blended clips, 0 to 1.")] = 0.25,
    own: Annotated[float, typer.Option(help="Share of clips that keep their own frames, 0 to 1.")] = 0.0,
    parallel: Annotated[
        float, typer.Option(help="Share of clips with parallel ones to convert from one of these, 0 to 1.")
    ] = 1.0,
    reference: Annotated[tuple[float, float], typer.Option(help="Range of the seconds of reference.")] = (20, 300),
    seed: Annotated[int, typer.Option(help="Random seed.", min=0)] = 0,
    device: arguments.Device = "auto",
    as_json: arguments.Json = False,
) -> None:
    """Replace the frames of CLIPS by their nearest neighbours in the speaker's other clips, for `train-vocoder`.

    OUTPUT/clips.tsv is the manifest for `clips` of a vocoder's configuration, with `features: frames`. Frames that an
    earlier run with the same settings has written are kept.
    """
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; -o wants a folder")
    from pretrain.data.manifest import read_manifest
    from ssl_vc.conversion.prematch import PrematchConfig, draw_sources
    from ssl_vc.conversion.prematch import prematch as prematch_clips
    from ssl_vc.features.analysis import disentangled_analysis, ssl_analysis
    from ssl_vc.features.disentangled import disentangled_layout

    log_to_stderr("pretrain")
    config = PrematchConfig(k, blend, mixed, own, reference, seed)
    chosen = [clip for clip in read_manifest(clips, split) if not clip.key.startswith(tuple(leave_out or ()))]
    chosen = draw_sources(chosen, parallel, seed)
    with working_in(output):
        extractor = ssl_vc.Extractor.from_pretrained(model, layer, device=device)
        analysis, layout = ssl_analysis(extractor, model), None
        if features == Features.spoken:
            analysis = disentangled_analysis(extractor)
            layout = disentangled_layout(analysis.feature_spec)
        start, seconds, count = time.perf_counter(), 0.0, 0
        finished = prematch_clips(chosen, output, extractor, analysis, layout, config)
        for clip in track(finished, "clip", len(chosen)):
            seconds, count = seconds + clip.seconds, count + 1
    elapsed, table, dim = time.perf_counter() - start, output / "clips.tsv", analysis.feature_spec["dim"]
    report = {"output": str(table), "clips": count, "hours": round(seconds / 3600, 3), "seconds": round(elapsed, 1)}
    line = f"{table}: {count} clips, {seconds / 3600:.2f} h of frames with {dim} dimensions; {elapsed:.0f} s"
    typer.echo(json.dumps(report) if as_json else line)
