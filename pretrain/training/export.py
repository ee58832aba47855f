"""What a pretraining leaves behind: the encoder in a folder of its own, in our form and in transformers'."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch

from pretrain.data.pack import Sounds
from pretrain.encoder import SpeechEncoder
from pretrain.recipe import PretrainConfig
from pretrain.training.centre import centred

CENTRED_BY = 1000  # clips, evenly spread


def export(model: Path, folder: Path, config: PretrainConfig, made_of: str, sounds: Sounds | None) -> None:
    """Write `encoder/`, and `transformers/` where the encoder's shape exists there; nothing that is there already.

    Args:
        model: the trained encoder.
        folder: of the pretraining.
        config: its recipe.
        made_of: a fingerprint of what the encoder is made of.
        sounds: by which it is centred.
    """
    out, part = folder / "encoder", folder / ".encoder.part"
    also = [f"{name} {value}" for name in ("centred", "half", "cepstra") if (value := getattr(config, name))]
    made_of = " ".join([made_of, str(config.matching_layer), *also])
    if out.exists():
        if not (out / "made_of").is_file():
            raise ValueError(f"{out} was not made here; take another folder.")
        if (out / "made_of").read_text(encoding="utf-8") == made_of:
            return
    trained = SpeechEncoder.from_pretrained(model)
    if config.centred and config.matching_layer and sounds:
        trained = centred(trained, config.matching_layer, _some(sounds, CENTRED_BY))
    told = replace(trained.config, matching_layer=config.matching_layer, cepstra=config.cepstra)
    encoder = SpeechEncoder(told)
    encoder.load_state_dict(trained.state_dict())
    shutil.rmtree(part, ignore_errors=True)
    (encoder.half() if config.half else encoder).save_pretrained(part)
    (part / "recipe.json").write_text(json.dumps(asdict(config), indent=1), encoding="utf-8")
    (part / "made_of").write_text(made_of, encoding="utf-8")
    if encoder.config.frontend == "conv":
        encoder.save_transformers(folder / "transformers")
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)


def _some(sounds: Sounds, most: int) -> Iterator[torch.Tensor]:
    """Give at most so many clips, evenly spread."""
    clips = len(sounds.clips)
    for number in range(min(most, clips)):
        yield torch.from_numpy(sounds.read(number * clips // min(most, clips)))
