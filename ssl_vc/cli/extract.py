"""`ssl-vc extract`: write SSL features to disk."""

import json
import time
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import ssl_vc
from ssl_vc.cli import arguments
from ssl_vc.cli.arguments import refuse_overwriting
from ssl_vc.cli.messages import for_each_file, pace
from ssl_vc.process import prepare_inference


class Dtype(StrEnum):
    """Floating-point format of the computation."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


def extract(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Audio files.", readable=False)],
    output: arguments.OutputFolder,
    model: arguments.Encoder = "tiny",
    layer: Annotated[int | None, typer.Option(help="Encoder layer. Default: the model's own choice.")] = None,
    device: arguments.Device = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Floating-point format of the computation.")] = Dtype.auto,
    force: arguments.Force = False,
    as_json: arguments.Json = False,
) -> None:
    """Write the frames of each INPUT and their spec to OUTPUT/NAME.safetensors."""
    outputs = _plan_outputs(inputs, output, force)
    prepare_inference()
    if not any(source.is_file() for source in inputs):
        ssl_vc.read(inputs[0])  # raises before a model is loaded
    extractor = ssl_vc.Extractor.from_pretrained(model, layer, device=device, dtype=dtype.value)

    def extract_file(source: Path, path: Path) -> str:
        start = time.perf_counter()
        frames = extractor.save(source, path)
        elapsed = time.perf_counter() - start
        report = {"input": str(source), "output": str(path), "frames": frames, "dim": extractor.spec.dim}
        report |= {"layer": extractor.spec.layer, "encoder": extractor.spec.encoder, "seconds": round(elapsed, 3)}
        line = f"{source} -> {path}: {frames} frames of {extractor.spec.dim}, {pace(frames / 50, elapsed)}"
        return json.dumps(report) if as_json else line

    for_each_file(outputs, extract_file)


def _plan_outputs(inputs: list[Path], output: Path, force: bool) -> dict[Path, Path]:
    """Return the output of each input; refuse ambiguous and existing ones."""
    outputs = {source: output / f"{source.stem}.safetensors" for source in inputs}
    duplicates = [path for path, count in Counter(outputs.values()).items() if count > 1]
    if duplicates:
        raise typer.BadParameter(f"several inputs would be written to {duplicates[0]}; give them different folders")
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; -o wants a folder")
    refuse_overwriting(outputs.values(), force)
    return outputs
