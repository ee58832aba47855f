"""`ssl-vc pretrain`: from speech files to an encoder."""

import json
import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from ssl_vc.cli.messages import StoppedError, log_to_stderr, notify
from ssl_vc.cli.settings import Settings, read_config, working_in
from ssl_vc.files import replacing

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from pretrain.recipe import PretrainConfig
    from pretrain.training.trainer import Trainer


def pretrain(
    config: Annotated[Path, typer.Argument(help="A recipe by name, of those in configs/pretrain, or a YAML file.")],
    settings: Settings = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output folder; runs/CONFIG by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted training.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per log entry.")] = False,
) -> None:
    """Pretrain an encoder: labels, iterations, export. Finished stages are skipped.

    OUTPUT/encoder can then be used as `--model`. Under torchrun, all processes train together.
    """
    from pretrain.recipe import PretrainConfig

    recipe = read_config(config, settings or [], PretrainConfig, "pretrain")
    folder = output or Path("runs") / config.stem
    with working_in(folder):
        _run(recipe, folder, resume, as_json)


def _run(recipe: "PretrainConfig", folder: Path, resume: bool, as_json: bool) -> None:
    logger = log_to_stderr("pretrain")
    try:
        pipeline = import_module("pretrain.pipeline")
    except ModuleNotFoundError as error:
        raise ValueError(f"training needs {error.name}, which is not installed; pip install 'ssl-vc[train]'.") from None
    run = pipeline.Pretraining(recipe, folder)
    if run.interrupted and not resume:
        raise ValueError(
            f"{folder} holds an interrupted training; continue it with --resume, or choose another folder."
        )

    def on_step(iteration: int, trainer: "Trainer", step: int, metrics: dict[str, float]) -> None:
        if trainer.is_main and (step % trainer.config.log_every == 0 or trainer.progress >= 1):
            tqdm.write(_progress(iteration, trainer.progress, step, metrics, as_json))

    if not run.state.is_main_process:
        logger.setLevel(logging.ERROR)
    try:
        encoder = run.run(on_step)
    except KeyboardInterrupt:
        raise StoppedError(
            f"the same command with --resume goes on from the last checkpoint, which is in {folder}."
        ) from None
    except ValueError as error:
        if not str(error).startswith("Caught "):
            raise
        raise ValueError(str(error).rstrip().rpartition("\n")[2].partition(": ")[2]) from error  # from a worker
    if run.state.is_main_process:
        curves = _draw(folder, len(recipe.iterations))
        notify("done", f"the encoder is in {encoder}, and its learning curves in {curves}")


def _progress(iteration: int, progress: float, step: int, metrics: dict[str, float], as_json: bool) -> str:
    """Format a step's metrics as a line of text or JSON."""
    values = {name: round(value, 4) for name, value in metrics.items() if name != "learning_rate"}
    values["learning_rate"] = float(f"{metrics['learning_rate']:.3g}")
    if as_json:
        return json.dumps({"iteration": iteration, "step": step, **values})
    text = ", ".join(f"{name} {value:g}" for name, value in values.items() if name != "speed")
    speed = f"{metrics['speed']:.0f} s of speech a second"
    return f"iteration {iteration}, step {step} ({100 * progress:.0f} %): {text}; {speed}"


def _draw(folder: Path, iterations: int) -> Path:
    """Plot the prediction accuracy on validation clips, or on training clips if there are none."""
    from pretrain.training.metrics_log import read_metrics
    from ssl_vc.html.charts import lines_svg

    series: dict[str, list[tuple[float, float]]] = {}
    for number in range(1, iterations + 1):
        entries = read_metrics(folder / str(number))
        entries = [entry for entry in entries if entry["of"] == "valid"] or entries
        for name in (name for name in entries[-1] if "accuracy" in name):
            heading = f"{number}: {name.replace('_', ' ')}"
            series[heading] = [(entry["step"], 100 * entry[name]) for entry in entries if name in entry]
    picture = folder / "curves.svg"
    with replacing(picture) as temporary:
        title = f"Prediction accuracy: {folder.name}"
        temporary.write_text(lines_svg(series, title, "step", "percent of frames"), encoding="utf-8")
    return picture
