"""`ssl-vc train-vocoder`: train a vocoder on audio files."""

import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

import ssl_vc
from ssl_vc.cli.messages import log_to_stderr, notify, progress
from ssl_vc.cli.settings import Folder, Json, Resume, Settings, read_config, training_in

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from torch import Tensor

    from vocoder.training.recipe import TrainConfig
    from vocoder.training.trainer import Trainer


def train_vocoder(
    config: Annotated[Path, typer.Argument(help="A recipe by name, of those in configs/vocoder, or a YAML file.")],
    output: Folder,
    settings: Settings = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train a vocoder as CONFIG says; pass OUTPUT/model to `--weights`. Supports torchrun."""
    from vocoder.training.recipe import TrainConfig

    recipe = read_config(config, settings or [], TrainConfig, "vocoder")
    with training_in(output, output / "state.pt", resume):
        log_to_stderr("vocoder")
        trainer = _trainer(recipe, output)
        if resume:
            trainer.resume()
        train_with_progress(trainer, as_json)
        if trainer.is_main:
            notify("done", f"step {trainer.step}; the model is in {output / 'model'}")


def train_with_progress(trainer: "Trainer", as_json: bool) -> None:
    """Train to the last step, with a progress bar and reports of the losses."""
    recipe, started, first = trainer.config, time.perf_counter(), trainer.step
    with tqdm(total=recipe.steps, initial=first, unit="step", disable=None if trainer.is_main else True) as bar:

        def on_step(step: int, losses: dict[str, float]) -> None:
            bar.update(step - bar.n)
            if trainer.is_main and (step % recipe.log_every == 0 or step == recipe.steps):
                rate = (step - first) / (time.perf_counter() - started)
                tqdm.write(progress(step, losses, rate, as_json))

        trainer.run(on_step)


def _trainer(recipe: "TrainConfig", folder: Path) -> "Trainer":
    try:
        module = import_module("vocoder.training.trainer")
    except ModuleNotFoundError as error:
        raise ValueError(f"training needs {error.name}, which is not installed; pip install 'ssl-vc[train]'.") from None
    if recipe.features != "ssl":
        return module.Trainer(recipe, folder)
    extractor = ssl_vc.Extractor.from_pretrained(recipe.encoder, recipe.layer, normalized=recipe.normalized)

    def featurize(wav: "Tensor", sample_rate: int) -> "Tensor":
        return extractor((wav, sample_rate), every_hop=True)

    return module.Trainer(recipe, folder, featurize, extractor.spec.feature_spec)
