"""`ssl-vc pretrain`: from speech files to an encoder."""

import json
import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from ssl_vc.cli.messages import say, say_what_is_logged
from ssl_vc.cli.settings import read_config
from ssl_vc.files import replacing

if TYPE_CHECKING:  # loads torch, which `ssl-vc --help` need not wait for
    from pretrain.training.train import Trainer


def pretrain(
    config: Annotated[Path, typer.Argument(help="A YAML file, such as those in configs/pretrain.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, such as train.minutes=20.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for all of it; runs/CONFIG if left out.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per report.")] = False,
) -> None:
    """Pretrain an encoder by CONFIG: labels, iterations, export; what is done is not done again.

    OUTPUT/encoder is then what `--model` takes. Run by torchrun, it uses all its processes.
    """
    from pretrain.recipe import PretrainConfig

    recipe = read_config(config, settings or [], PretrainConfig)
    folder = output or Path("runs") / config.stem
    logger = say_what_is_logged("pretrain")
    try:
        pipeline = import_module("pretrain.pipeline")
    except ModuleNotFoundError as error:
        raise ValueError(f"training needs {error.name}, which is not installed; pip install 'ssl-vc[train]'.") from None
    run = pipeline.Pretraining(recipe, folder)
    if run.begun and not resume:
        raise ValueError(
            f"{folder} holds a training that was cut off; --resume goes on with it, or take another folder."
        )

    def watch(iteration: int, trainer: "Trainer", step: int, figures: dict[str, float]) -> None:
        if not trainer.main or (step % trainer.config.log_every and trainer.progress < 1):
            return
        facts = {name: round(value, 4) for name, value in figures.items() if name != "learning_rate"}
        facts["learning_rate"] = float(f"{figures['learning_rate']:.3g}")
        text = ", ".join(f"{name} {value:g}" for name, value in facts.items() if name != "speed")
        line = json.dumps({"iteration": iteration, "step": step, **facts})
        done = f"{100 * trainer.progress:.0f} %"
        speed = f"{figures['speed']:.0f} s of speech a second"
        tqdm.write(line if as_json else f"iteration {iteration}, step {step} ({done}): {text}; {speed}")

    if not run.state.is_main_process:
        logger.setLevel(logging.ERROR)  # one process is enough to say it
    try:
        encoder = run.run(watch)
    except KeyboardInterrupt:
        say("info", f"stopped; --resume goes on from the last save in {folder}")
        raise
    except ValueError as error:
        if not str(error).startswith("Caught "):
            raise
        raise ValueError(str(error).rstrip().rpartition("\n")[2].partition(": ")[2]) from error  # from a worker
    if run.state.is_main_process:
        curves = _draw(folder, len(recipe.iterations))
        say("done", f"the encoder is in {encoder}, and {curves} shows how it went")


def _draw(folder: Path, iterations: int) -> Path:
    """Draw what was guessed right of clips that are not learned from; of those that are, where there are no others."""
    from pretrain.training.record import history
    from ssl_vc.html.charts import lines_svg

    series: dict[str, list[tuple[float, float]]] = {}
    for number in range(1, iterations + 1):
        told = history(folder / str(number))
        told = [line for line in told if line["of"] == "valid"] or told
        for name in (name for name in told[-1] if "accuracy" in name):
            heading = f"{number}: {name.replace('_', ' ')}"
            series[heading] = [(line["step"], 100 * line[name]) for line in told if name in line]
    picture = folder / "curves.svg"
    with replacing(picture) as temporary:
        title = f"Clusters guessed right: {folder.name}"
        temporary.write_text(lines_svg(series, title, "step", "percent of frames"), encoding="utf-8")
    return picture
