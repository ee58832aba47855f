"""A whole pretraining in a folder: labels, a training, labels of that training's encoder, the next training, ...

    pack/, pack-valid/      the sound (see `pretrain.data.pack`)
    phones/                 what is said in it (see `pretrain.labels.align`), if any iteration guesses that
    1/labels-0/             what iteration 1 guesses (see `pretrain.labels.labels`)
    1/                      its training (see `pretrain.training.train`); `done.json` once it is over
    2/ ...
    encoder/                the last iteration's encoder, for `SpeechEncoder.from_pretrained`
    transformers/           the same for transformers, where its shape exists there

Each part is left as it is when it is there and was made by the same settings; a training that was cut off goes on.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed

from pretrain.data.batch import LabelSet, Maker
from pretrain.data.dataset import Clips
from pretrain.data.manifest import Clip, decode, read_manifest, sources_of
from pretrain.data.mixing import Noises
from pretrain.data.pack import Files, Sounds, make_pack
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.foreign import is_foreign
from pretrain.labels.align import Aligned, Phones, align
from pretrain.labels.features import Features, LayerFeatures, MfccFeatures
from pretrain.labels.labels import Labels, make_labels
from pretrain.labels.pronounce import Characters, Phonemes, Spelled
from pretrain.labels.speakers import Speakers
from pretrain.labels.trim import trimmed
from pretrain.objectives import OBJECTIVES
from pretrain.objectives.ctc import Ctc
from pretrain.recipe import MAY_CHANGE, LabelConfig, PretrainConfig, TrainConfig
from pretrain.training.export import export
from pretrain.training.loading import asked, streamed, usable
from pretrain.training.train import Trainer

log = logging.getLogger(__name__)

Watch = Callable[[int, Trainer, int, dict[str, float]], None]  # (iteration, its trainer, a step and its figures)


class Pretraining:
    """A pretraining in a folder.

    Args:
        config: the recipe.
        folder: where it lives.
    """

    def __init__(self, config: PretrainConfig, folder: str | Path) -> None:
        if not config.clips:
            raise ValueError(
                "there is nothing to learn from; set `clips` to a folder of sound files or a table of them."
            )
        if not config.iterations:
            raise ValueError("the recipe has no iterations; give at least one, with its labels.")
        self.config, self.folder = config, Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{folder} is a file; a pretraining lives in a folder.")
        self.state = PartialState(cpu=torch.accelerator.current_accelerator() is None, **_patience())
        self.train: Sounds | None = None
        self.valid: Sounds | None = None

    @property
    def begun(self) -> bool:
        """Whether a training is there that has been cut off."""
        return any(
            (self._of(n) / "state.pt").is_file() and not (self._of(n) / "done.json").is_file()
            for n in range(1, len(self.config.iterations) + 1)
        )

    def run(self, watch: Watch | None = None) -> Path:
        """Do what is not yet done, and give the encoder's folder."""
        self.open()
        made_of = ""
        for number in range(1, len(self.config.iterations) + 1):
            labels = self._labels(number)
            made_of = self._made_of(number, labels, made_of)
            self._iteration(number, labels, made_of, watch)
        if self.state.is_main_process:
            model = self._of(len(self.config.iterations)) / "model"
            export(model, self.folder, self.config, made_of, self.train)
        return self.folder / "encoder"

    def open(self) -> None:
        """Have the sound at hand."""
        config = self.config
        with self.state.main_process_first():
            if config.storage != "shards":
                self.train = self._sounds(config.clips, config.split, "pack")
            if config.valid_clips:
                self.valid = self._sounds(config.valid_clips, config.valid_split, "pack-valid")

    def _of(self, number: int) -> Path:
        return self.folder / str(number)

    def _sounds(self, source: str, split: str | None, name: str) -> Sounds:
        clips = read_manifest(source, split)
        if self.config.storage == "files":
            return Files(clips)
        return make_pack(clips, self.folder / name, keep=(self._of(1) / "made_of").is_file())

    def _labels(self, number: int) -> list[LabelSet]:
        made = []
        for which, config in enumerate(self.config.iterations[number - 1].labels):
            with self.state.main_process_first():
                made.append(self._labelled(config, number, self._of(number) / f"labels-{which}"))
        return made

    def _labelled(self, config: LabelConfig, number: int, folder: Path) -> LabelSet:
        """Make labels of all clips, by clusters found in those to learn from, and judge them once."""
        if (Path(config.of) / "labels.u16").is_file():
            return Labels.open(config.of)
        if self.train is None:
            raise ValueError(
                f"the labels of shards are made before the shards are; `ssl-vc label` makes them, and `of` names their "
                f"folder, which {config.of!r} is not."
            )
        sounds = [self.train, self.valid] if self.valid else [self.train]
        clips = [clip for part in sounds for clip in part.clips]
        if config.of == "speakers":
            return Speakers(self.train.clips)
        if config.of == "phones":
            alone = {of.of for of in self.config.iterations[number - 1].labels} <= {"phones", "speakers"}
            return Aligned(align(clips, self.folder / "phones"), config.states, alone)
        where = {clip.key: (part, index) for part in sounds for index, clip in enumerate(part.clips)}

        def read(clip: Clip) -> Any:
            if clip.source is not None:  # which is the sound at hand, and labels are of the clip itself
                return decode(clip.path)
            part, index = where[clip.key]
            return part.read(index)

        labels = make_labels(
            clips,
            folder,
            self._features(config, number),
            clusters=config.clusters,
            seed=self.config.seed,
            fit_hours=config.hours,
            fit_on=self.train.clips,
            keep=(self._of(number) / "made_of").is_file(),
            read=read,
        )
        if self.state.is_main_process and not (self._of(number) / "done.json").is_file():
            phones = Phones.open(self.config.phones) if self.config.phones else None
            found = labels.quality(phones)
            log.info("%s: %s", folder, ", ".join(f"{name} {value:.4g}" for name, value in found.items()))
        return labels

    def _features(self, config: LabelConfig, number: int) -> Features:
        if config.of == "mfcc":
            return MfccFeatures()
        encoder = load(self._of(number - 1) / "model" if config.of == "previous" else config.of)
        layer = next(
            (n for n in (config.layer, encoder.config.matching_layer, self.config.matching_layer) if n is not None),
            None,
        )
        if layer is None:
            raise ValueError(f"the labels of iteration {number} need a layer, from 0 to {encoder.config.depth}.")
        return LayerFeatures(encoder, layer, self.state.device)

    def _made_of(self, number: int, labels: list[LabelSet], before: str) -> str:
        """A fingerprint of what decides an iteration's outcome."""
        config = self.config
        told = asdict(config.trained(number))
        for name in MAY_CHANGE:
            del told[name]
        facts = [told, config.iterations[number - 1].start, asdict(config.encoder_config()), config.seed, before]
        facts += [[of.made_of for of in labels], config.noise_clips, config.noise_split]
        shares = [of.weight for of in config.iterations[number - 1].labels]
        facts += [shares] if set(shares) != {1.0} else []
        sources = sources_of(self.train.clips) if self.train else ""  # labels do not depend on them
        facts += [sources] if sources else []
        return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()

    def _iteration(self, number: int, labels: list[LabelSet], made_of: str, watch: Watch | None) -> None:
        folder, config = self._of(number), self.config.trained(number)
        done = folder / "done.json"
        if (folder / "made_of").is_file() and (folder / "made_of").read_text(encoding="utf-8") != made_of:
            raise ValueError(
                f"{folder} holds a training by other settings; take another folder, or remove it to begin that "
                "iteration anew."
            )
        if done.is_file():
            took = json.loads(done.read_text(encoding="utf-8"))
            log.info("iteration %d is done, after %d steps and %g minutes", number, took["step"], took["minutes"])
            return
        set_seed(self.config.seed + number)
        trainer = self._trainer(number, config, labels)
        if trainer.main:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "made_of").write_text(made_of, encoding="utf-8")
        trainer.resume()
        trainer.run(None if watch is None else partial(watch, number, trainer))
        if trainer.main:
            figures = {"step": trainer.step, "minutes": round(trainer.elapsed / 60, 2)}
            done.write_text(json.dumps(figures), encoding="utf-8")
        trainer.accelerator.wait_for_everyone()
        trainer.accelerator.free_memory()

    def _trainer(self, number: int, config: TrainConfig, labels: list[LabelSet]) -> Trainer:
        dims = [of.clusters for of in labels]
        shares = [of.weight for of in self.config.iterations[number - 1].labels]
        encoder = self._start(number)
        also = {}
        if self.config.noise_clips and "noises" in {field.name for field in fields(OBJECTIVES[config.objective][0])}:  # type: ignore[arg-type]
            noise = read_manifest(self.config.noise_clips, self.config.noise_split)
            order = np.random.default_rng(self.config.seed).permutation(len(noise))  # only an hour of them is kept
            also["noises"] = Noises([noise[index] for index in order])
        settings = config.objective_settings(**also)
        objective = OBJECTIVES[config.objective][1](settings, encoder.config.dim, dims, shares)
        spelling = self._spelling(config) if config.text.weight else None
        speller = Ctc(encoder.config.dim, len(spelling.symbols)) if spelling else None
        spell = Spelled(spelling, config.text.languages) if spelling else None
        seed, train = self.config.seed, self.train
        if config.trimmed:
            phones = [of.phones for of in labels if isinstance(of, Aligned)]
            if not phones or train is None:
                raise ValueError("trimmed cuts clips where their phones end; give labels of phones, and no shards.")
            train, labels = trimmed(train, labels, phones[0])
        make = partial(Maker, labels, settings.prepare, longest=config.longest, spell=spell)
        make = partial(make, speeds=config.speeds, channel=config.channel)
        if train is None:
            batches = streamed(self.config.clips, make(), config, seed)
        else:
            batches = asked(train, make(), config, seed)
        valid = None
        if self.valid:
            valid = Clips(usable(self.valid, labels, config.shortest), make(training=False), seed)
        return Trainer(
            config,
            self._of(number),
            encoder,
            objective,
            batches,
            valid,
            speller,
            seed=seed,
        )

    def _start(self, number: int) -> SpeechEncoder:
        start, shape = self.config.iterations[number - 1].start, self.config.encoder_config()
        if not start:
            return SpeechEncoder(shape)
        encoder = load(self._of(number - 1) / "model" if start == "previous" else start)
        advice: dict[str, Any] = {"matching_layer": None, "cepstra": 0.0}
        if replace(encoder.config, **advice) != replace(shape, **advice):
            log.info("iteration %d goes on with the shape of %s", number, start)
        return encoder

    def _spelling(self, config: TrainConfig) -> Characters | Phonemes:
        if config.text.units == "phones":
            return Phonemes(Path(config.text.dictionary) if config.text.dictionary else None)
        return Characters.of(clip.text for clip in self.train.clips) if self.train else Characters()


def load(name: str | Path) -> SpeechEncoder:
    """Read an encoder of ours, or of others."""
    if Path(name).is_dir() and not is_foreign(name):
        return SpeechEncoder.from_pretrained(name)
    return SpeechEncoder.from_foreign(name)


def _patience() -> dict[str, Any]:
    """How long processes wait while the first one makes labels."""
    return {"timeout": timedelta(hours=24)} if torch.distributed.is_available() else {}
