"""`ssl-vc extract`: features to disk."""

import json
import time
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

import ssl_vc
from ssl_vc.cli.messages import say


class Dtype(StrEnum):
    """Number formats to compute in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


def extract(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Sound files.", readable=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the features.", show_default=False)],
    model: Annotated[str, typer.Option(help="tiny, untrained, a folder, a .pt file or a hub id.")] = "tiny",
    layer: Annotated[int | None, typer.Option(help="Layer to take; the model's own choice if left out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="What to compute in.")] = Dtype.auto,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per result.")] = False,
) -> None:
    """Write each INPUT's frames to OUTPUT/NAME.safetensors, with what made them."""
    targets = _targets(inputs, output, force)
    if not any(source.is_file() for source in inputs):
        ssl_vc.read(inputs[0])  # says what is wrong before a model is loaded for nothing
    extractor = ssl_vc.Extractor.from_pretrained(model, layer, device=device, dtype=dtype.value)
    failed = 0
    for source, target in tqdm(targets.items(), unit="file", disable=None if len(targets) > 1 else True):
        start = time.perf_counter()
        try:
            frames = extractor.save(source, target)
        except (ValueError, OSError) as error:  # one bad file never stops the rest
            if len(targets) == 1:
                raise
            failed += 1
            say("error", error)
            continue
        taken = time.perf_counter() - start
        result = {"input": str(source), "output": str(target), "frames": frames, "dim": extractor.spec.dim}
        result |= {"layer": extractor.spec.layer, "encoder": extractor.spec.encoder, "seconds": round(taken, 3)}
        line = f"{source} -> {target}: {frames} frames of {extractor.spec.dim}, {frames / 50 / taken:.0f} x real time"
        tqdm.write(json.dumps(result) if as_json else line)
    if failed:
        raise ValueError(f"{failed} of {len(targets)} files failed.")


def _targets(inputs: list[Path], output: Path, force: bool) -> dict[Path, Path]:
    """Say where each input's frames go, and refuse what would be overwritten."""
    targets = {source: output / f"{source.stem}.safetensors" for source in inputs}
    twice = [path for path, count in Counter(targets.values()).items() if count > 1]
    if twice:
        raise typer.BadParameter(f"several inputs would be written to {twice[0]}; give them different folders")
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; -o wants a folder")
    existing = [path for path in targets.values() if path.exists()]
    if existing and not force:
        raise ValueError(f"{existing[0]} exists; --force overwrites it.")
    return targets
