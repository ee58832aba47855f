"""`ssl-vc train-tts`: from texts and their recordings to a text model."""

import time
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from ssl_vc.cli.messages import progress, say, say_what_is_logged
from ssl_vc.cli.settings import Folder, Json, Resume, Settings, read_config, refuse_training

EVERY = 100  # steps between reports


def train_tts(
    config: Annotated[Path, typer.Argument(help="A YAML file, such as configs/tts/tiny.yaml.")],
    output: Folder,
    settings: Settings = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Learn to say texts by CONFIG, from clips with texts; OUTPUT/model is what `ssl-vc speak --text-model` takes."""
    from ssl_vc.tts.lessons import learn_letters, make_said
    from ssl_vc.tts.recipe import TTSConfig

    recipe = read_config(config, settings or [], TTSConfig)
    if not recipe.clips:
        raise typer.BadParameter("there is nothing to learn from; set clips=TABLE, a table of clips with texts")
    refuse_training(output, output / "state.pt", resume)
    for package in ("pretrain", "ssl_vc.tts"):
        say_what_is_logged(package)
    for _ in tqdm(learn_letters(recipe, output), total=recipe.letters_steps, unit="step", disable=None):
        pass
    for _ in tqdm(make_said(recipe, output), unit="clip", disable=None):
        pass
    trainer = import_module("ssl_vc.tts.training").Trainer(recipe, output)
    if resume:
        trainer.resume()
    started, first = time.perf_counter(), trainer.step
    with tqdm(total=recipe.steps, initial=first, unit="step", disable=None) as bar:
        for losses in trainer.run():
            bar.update()
            if trainer.step % EVERY == 0 or trainer.step == recipe.steps:
                rate = (trainer.step - first) / (time.perf_counter() - started)
                tqdm.write(progress(trainer.step, losses, rate, as_json))
    say("done", f"step {trainer.step}; the model is in {output / 'model'}")
