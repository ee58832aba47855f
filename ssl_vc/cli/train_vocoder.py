"""`ssl-vc train-vocoder`: from speech files to a vocoder."""

import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

import ssl_vc
from ssl_vc.cli.messages import progress, say, say_what_is_logged
from ssl_vc.cli.settings import Folder, Json, Resume, Settings, read_config, refuse_training

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from torch import Tensor

    from vocoder.training.recipe import TrainConfig
    from vocoder.training.trainer import Trainer


def train_vocoder(
    config: Annotated[Path, typer.Argument(help="A YAML file, such as those in configs/vocoder.")],
    output: Folder,
    settings: Settings = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train a vocoder by CONFIG; OUTPUT/model is what `--weights` takes. Run by torchrun it uses all its processes."""
    from vocoder.training.recipe import TrainConfig

    recipe = read_config(config, settings or [], TrainConfig)
    refuse_training(output, output / "state.pt", resume)
    say_what_is_logged("vocoder")
    trainer = _trainer(recipe, output)
    if resume:
        trainer.resume()
    watched(trainer, as_json)
    if trainer.main:
        say("done", f"step {trainer.step}; the model is in {output / 'model'}")


def watched(trainer: "Trainer", as_json: bool) -> None:
    """Train to the last step, and report losses on the way."""
    recipe, started, first = trainer.config, time.perf_counter(), trainer.step
    with tqdm(total=recipe.steps, initial=first, unit="step", disable=None if trainer.main else True) as bar:

        def watch(step: int, losses: dict[str, float]) -> None:
            bar.update(step - bar.n)
            if trainer.main and (step % recipe.log_every == 0 or step == recipe.steps):
                rate = (step - first) / (time.perf_counter() - started)
                tqdm.write(progress(step, losses, rate, as_json))

        trainer.run(watch)


def _trainer(recipe: "TrainConfig", folder: Path) -> "Trainer":
    try:
        train = import_module("vocoder.training.trainer")
    except ModuleNotFoundError as error:
        raise ValueError(f"training needs {error.name}, which is not installed; pip install 'ssl-vc[train]'.") from None
    if recipe.features != "ssl":
        return train.Trainer(recipe, folder)
    extractor = ssl_vc.Extractor.from_pretrained(recipe.encoder, recipe.layer, normalized=recipe.normalized)

    def frames(wav: "Tensor", sample_rate: int) -> "Tensor":
        return extractor((wav, sample_rate), every_hop=True)

    return train.Trainer(recipe, folder, frames, extractor.spec.facts)
