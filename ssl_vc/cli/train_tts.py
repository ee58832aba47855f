"""`ssl-vc train-tts`: train a text model on recordings and transcripts."""

import time
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from ssl_vc.cli.messages import log_to_stderr, notify, progress, track
from ssl_vc.cli.settings import Folder, Json, Resume, Settings, read_config, require_clips, training_in

EVERY = 100  # steps between reports


def train_tts(
    config: Annotated[Path, typer.Argument(help="A recipe by name, of those in configs/tts, or a YAML file.")],
    output: Folder,
    settings: Settings = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train a text model by CONFIG on transcribed clips; `ssl-vc speak --text-model` takes OUTPUT/model."""
    from ssl_vc.tts.dataset import extract_rows, train_g2p
    from ssl_vc.tts.recipe import TTSConfig

    recipe = read_config(config, settings or [], TTSConfig, "tts")
    if not recipe.clips:
        raise typer.BadParameter("there is no training data; name a folder or table of clips with transcripts")
    require_clips(recipe.clips)  # the dictionary's model takes minutes, and comes first
    with training_in(output, output / "state.pt", resume):
        for package in ("pretrain", "ssl_vc.tts"):
            log_to_stderr(package)
        for _ in track(train_g2p(recipe, output), "step", recipe.g2p_steps, "pronunciations"):
            pass
        for _ in track(extract_rows(recipe, output), "clip", label="frames"):
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
        notify("done", f"step {trainer.step}; the model is in {output / 'model'}")
