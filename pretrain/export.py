"""Export of the trained encoder, in our format and in transformers'."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch

from pretrain.data.pack import ClipAudio
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.quantiser_file import FILE
from pretrain.encoder.to_transformers import HEADS, has_equal
from pretrain.encoder.weights import read_weights
from pretrain.recipe import PretrainConfig
from pretrain.training.centring import centre_layer

CENTRING_CLIPS = 1000


def export(model: Path, folder: Path, config: PretrainConfig, fingerprint: str, audio: ClipAudio | None) -> None:
    """Write `encoder/`, and `transformers/` where that has the architecture, unless they are up to date.

    Args:
        model: folder of the trained encoder.
        folder: of the pretraining.
        config: its recipe.
        fingerprint: of all that decides the encoder's weights.
        audio: the clips over which it is centred.
    """
    out, part = folder / "encoder", folder / ".encoder.part"
    options = [f"{name} {value}" for name in ("centred", "half", "cepstra") if (value := getattr(config, name))]
    fingerprint = " ".join([fingerprint, str(config.matching_layer), *options])
    if out.exists():
        if not (out / "made_of").is_file():
            raise ValueError(f"{out} was not written by `ssl-vc pretrain`; choose another folder.")
        if (out / "made_of").read_text(encoding="utf-8") == fingerprint:
            return
    trained = SpeechEncoder.from_pretrained(model)
    if config.centred and config.matching_layer and audio:
        trained = centre_layer(trained, config.matching_layer, _spread_clips(audio, CENTRING_CLIPS))
    shape = replace(trained.config, matching_layer=config.matching_layer, cepstra=config.cepstra)
    encoder = SpeechEncoder(shape)
    encoder.load_state_dict(trained.state_dict())
    shutil.rmtree(part, ignore_errors=True)
    (encoder.half() if config.half else encoder).save_pretrained(part)
    if (model / FILE).is_file():
        shutil.copyfile(model / FILE, part / FILE)
    (part / "recipe.json").write_text(json.dumps(asdict(config), indent=1), encoding="utf-8")
    (part / "made_of").write_text(fingerprint, encoding="utf-8")
    if has_equal(encoder.config):
        heads = read_weights(model / FILE) if (model / FILE).is_file() else {}
        encoder.save_transformers(folder / "transformers", heads if HEADS.keys() <= heads.keys() else None)
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)


def _spread_clips(audio: ClipAudio, limit: int) -> Iterator[torch.Tensor]:
    """Read at most `limit` evenly spread clips."""
    total = len(audio.clips)
    count = min(limit, total)
    for number in range(count):
        yield torch.from_numpy(audio.read(number * total // count))
