"""`ssl-vc prematch`: what a vocoder will get in conversions, to train it on."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

import ssl_vc
from ssl_vc.cli.messages import say_what_is_logged


class Features(StrEnum):
    """What the vocoder is to read."""

    spoken = "spoken"
    ssl = "ssl"


def prematch(
    clips: Annotated[Path, typer.Argument(help="A folder of sound files, or a table of them.", readable=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the frames.", show_default=False)],
    split: Annotated[str | None, typer.Option(help="Rows of the table.")] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Clips whose key begins so; more than once.")] = None,
    model: Annotated[str, typer.Option(help="tiny, untrained, a folder, a .pt file or a hub id.")] = "tiny",
    layer: Annotated[int | None, typer.Option(help="Layer to match; the model's own choice if left out.")] = None,
    features: Annotated[Features, typer.Option(help="What the vocoder is to read: see README.")] = Features.spoken,
    k: Annotated[tuple[int, int], typer.Option(help="Neighbours: from, to.")] = (1, 8),
    blend: Annotated[tuple[float, float], typer.Option(help="Share of matched frames in mixtures.")] = (0.0, 1.0),
    mixed: Annotated[float, typer.Option(help="How many of the clips are such mixtures, 0 to 1.")] = 0.25,
    own: Annotated[float, typer.Option(help="How many of the clips keep their own frames, 0 to 1.")] = 0.0,
    reference: Annotated[tuple[float, float], typer.Option(help="Seconds of other clips to match with.")] = (20, 300),
    seed: Annotated[int, typer.Option(help="Of what is random.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Replace the frames of CLIPS by their nearest ones in their speakers' other clips, for `train-vocoder`.

    OUTPUT/clips.tsv is what `clips` of a vocoder's configuration takes, with `features: frames`. What an earlier run
    has made of the same clips is left as it is.
    """
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; -o wants a folder")
    from pretrain.data.manifest import read_manifest
    from ssl_vc.conversion.prematch import PrematchConfig
    from ssl_vc.conversion.prematch import prematch as matched
    from ssl_vc.features.analysis import spoken_frames, ssl_frames
    from ssl_vc.features.disentangled import parts_of

    say_what_is_logged("pretrain")
    config = PrematchConfig(k, blend, mixed, own, reference, seed)
    chosen = [clip for clip in read_manifest(clips, split) if not clip.key.startswith(tuple(leave_out or ()))]
    extractor = ssl_vc.Extractor.from_pretrained(model, layer, device=device)
    analysis = spoken_frames(extractor) if features == "spoken" else ssl_frames(extractor, model)
    parts = parts_of(analysis.made_by) if features == "spoken" else None
    start, seconds, count = time.perf_counter(), 0.0, 0
    done = matched(chosen, output, extractor, analysis, parts, config)
    for clip in tqdm(done, total=len(chosen), unit="clip", disable=None):
        seconds, count = seconds + clip.seconds, count + 1
    taken = time.perf_counter() - start
    table = output / "clips.tsv"
    result = {"output": str(table), "clips": count, "hours": round(seconds / 3600, 3), "seconds": round(taken, 1)}
    line = f"{table}: {count} clips, {seconds / 3600:.2f} h of {analysis.made_by['dim']} numbers a frame; {taken:.0f} s"
    typer.echo(json.dumps(result) if as_json else line)
