"""`ssl-vc train-units`: from speech files to units and a vocoder that speaks them."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from ssl_vc.cli.messages import say, say_what_is_logged
from ssl_vc.cli.settings import Folder, Json, Resume, Settings, read_config, refuse_training
from ssl_vc.cli.train_vocoder import watched


def train_units(
    config: Annotated[Path, typer.Argument(help="A YAML file, such as configs/units/tiny.yaml.")],
    output: Folder,
    settings: Settings = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Learn discrete units by CONFIG, and a vocoder for them; OUTPUT/codec is what `ssl-vc units --codec` takes."""
    from ssl_vc.units.training import UnitsConfig, gather, learn_prosody, make_frames, vocoder_recipe

    recipe = read_config(config, settings or [], UnitsConfig)
    if not recipe.clips:
        raise typer.BadParameter("there is nothing to learn from; set clips=FOLDER, or a table of clips")
    refuse_training(output, output / "vocoder" / "state.pt", resume)
    wanted = vocoder_recipe(recipe, output)
    for package in ("vocoder", "pretrain"):
        say_what_is_logged(package)
    for _ in tqdm(make_frames(recipe, output), unit="clip", disable=None):
        pass
    if not (output / "vocoder" / "state.pt").exists():
        with tqdm(learn_prosody(recipe, output), total=recipe.prosody_steps, unit="step", disable=None) as bar:
            losses = list(bar)
        say("prosody", f"loss {losses[0]:.2f} at first, {losses[-1]:.2f} at last")
    trainer = import_module("vocoder.training.trainer").Trainer(wanted, output / "vocoder")
    if resume:
        trainer.resume()
    watched(trainer, as_json)
    say("done", f"step {trainer.step}; the codec is in {gather(output)}")
