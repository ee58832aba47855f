"""`ssl-vc train-units`: train a unit codec on speech files."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from ssl_vc.cli.messages import log_to_stderr, notify, track
from ssl_vc.cli.settings import Folder, Json, Resume, Settings, read_config, training_in
from ssl_vc.cli.train_vocoder import train_with_progress


def train_units(
    config: Annotated[Path, typer.Argument(help="A recipe by name, of those in configs/units, or a YAML file.")],
    output: Folder,
    settings: Settings = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train a unit codec and its vocoder by CONFIG; `ssl-vc units --codec` takes OUTPUT/codec."""
    from ssl_vc.units.training import (
        UnitsConfig,
        check_codec,
        export_codec,
        extract_frames,
        train_prosody,
        vocoder_recipe,
    )

    recipe = read_config(config, settings or [], UnitsConfig, "units")
    if not recipe.clips:
        raise typer.BadParameter("there is no training data; set clips=FOLDER, or a manifest of clips")
    with training_in(output, output / "vocoder" / "state.pt", resume):
        check_codec(output)  # before the training that it would be the end of
        vocoder = vocoder_recipe(recipe, output)
        for package in ("vocoder", "pretrain"):
            log_to_stderr(package)
        for _ in track(extract_frames(recipe, output), "clip", label="frames"):
            pass
        if not (output / "vocoder" / "state.pt").exists():
            losses = list(track(train_prosody(recipe, output), "step", recipe.prosody_steps, "prosody"))
            notify("prosody", f"loss {losses[0]:.2f} at the first step, {losses[-1]:.2f} at the last")
        trainer = import_module("vocoder.training.trainer").Trainer(vocoder, output / "vocoder")
        if resume:
            trainer.resume()
        train_with_progress(trainer, as_json)
        notify("done", f"step {trainer.step}; the codec is in {export_codec(output)}")
