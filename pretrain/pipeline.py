"""The pretraining pipeline: labels, a training, labels from the trained encoder, the next training, and so on.

    pack/, pack-valid/      decoded audio (see `pretrain.data.pack`)
    phones/                 forced alignments (see `pretrain.labels.align`), if an iteration predicts phones
    1/labels-0/             labels of iteration 1 (see `pretrain.labels.kmeans_labels`)
    1/                      its training (see `pretrain.training.trainer`); `done.json` once finished
    2/ ...
    encoder/                the last iteration's encoder, for `SpeechEncoder.from_pretrained`
    transformers/           the same for transformers, where that has the architecture

Finished stages with the same settings are skipped; an interrupted training is resumed.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed

from pretrain.data.batch import Collator, LabelSet
from pretrain.data.dataset import ClipDataset
from pretrain.data.manifest import Clip, Samples, decode, parallel_clips, read_manifest, sources_fingerprint
from pretrain.data.mixing import NoiseBank
from pretrain.data.pack import AudioFiles, ClipAudio, build_pack
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.quantiser_file import read_quantiser
from pretrain.export import export
from pretrain.initial import initial_encoder, load_encoder
from pretrain.labels.align import AlignmentLabels, PhoneAlignments, align
from pretrain.labels.codes import CodeFeatures
from pretrain.labels.features import Features, LayerFeatures, MfccFeatures
from pretrain.labels.kmeans import KMeans
from pretrain.labels.kmeans_labels import KMeansLabels, label_clips
from pretrain.labels.speakers import SpeakerLabels
from pretrain.labels.tokenizers import CharacterTokenizer, PhonemeTokenizer, TranscriptTokenizer
from pretrain.labels.trim import trim_silence
from pretrain.objectives import OBJECTIVES, Settings
from pretrain.objectives.ctc import CtcHead
from pretrain.recipe import CODES, MUTABLE_SETTINGS, LabelConfig, PretrainConfig
from pretrain.training.config import TrainConfig
from pretrain.training.loaders import indexed_batches, streamed_batches, usable_clips
from pretrain.training.trainer import CHECKPOINT, Trainer

log = logging.getLogger(__name__)

FINGERPRINT, DONE = "made_of", "done.json"  # files of an iteration

OnStep = Callable[[int, Trainer, int, dict[str, float]], None]  # (iteration, its trainer, step, metrics)


class Pretraining:
    """Runs a pretraining recipe in a folder.

    Args:
        config: the recipe.
        folder: of all its files.
    """

    def __init__(self, config: PretrainConfig, folder: str | Path) -> None:
        if not config.clips:
            raise ValueError("there are no clips to train on; set `clips` to a folder of audio files or a manifest.")
        if not config.iterations:
            raise ValueError("the recipe has no iterations; add at least one, with its labels.")
        self.config, self.folder = config, Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{folder} is a file; pretraining needs a folder.")
        self.state = PartialState(cpu=torch.accelerator.current_accelerator() is None, **_process_options())
        self.train: ClipAudio | None = None
        self.valid: ClipAudio | None = None

    @property
    def interrupted(self) -> bool:
        """Whether the folder has an unfinished training."""
        return any(
            (self._iteration_folder(n) / CHECKPOINT).is_file() and not (self._iteration_folder(n) / DONE).is_file()
            for n in range(1, len(self.config.iterations) + 1)
        )

    def run(self, on_step: OnStep | None = None) -> Path:
        """Run all unfinished stages, and return the encoder's folder."""
        self.open()
        fingerprint = ""
        for number in range(1, len(self.config.iterations) + 1):
            labels = self._labels(number)
            fingerprint = self._iteration_fingerprint(number, labels, fingerprint)
            self._run_iteration(number, labels, fingerprint, on_step)
        if self.state.is_main_process:
            model = self._iteration_folder(len(self.config.iterations)) / "model"
            export(model, self.folder, self.config, fingerprint, self.train)
        return self.folder / "encoder"

    def open(self) -> None:
        """Open the audio, after decoding it if necessary."""
        config = self.config
        with self.state.main_process_first():
            if config.storage != "shards":
                self.train = self._open_audio(config.clips, config.split, "pack")
            if config.valid_clips:
                self.valid = self._open_audio(config.valid_clips, config.valid_split, "pack-valid")

    def _iteration_folder(self, number: int) -> Path:
        return self.folder / str(number)

    def _open_audio(self, source: str, split: str | None, name: str) -> ClipAudio:
        clips = read_manifest(source, split)
        if self.config.storage == "files":
            return AudioFiles(clips)
        return build_pack(clips, self.folder / name, keep=(self._iteration_folder(1) / FINGERPRINT).is_file())

    def _labels(self, number: int) -> list[LabelSet]:
        labels = []
        for which, config in enumerate(self.config.iterations[number - 1].labels):
            with self.state.main_process_first():
                labels.append(self._label_set(config, number, self._iteration_folder(number) / f"labels-{which}"))
        return labels

    def _label_set(self, config: LabelConfig, number: int, folder: Path) -> LabelSet:
        """Open or compute one set of labels of all clips."""
        if (Path(config.of) / "labels.u16").is_file():
            return KMeansLabels.open(config.of)
        if self.train is None:
            raise ValueError(
                "shards need existing labels: make them with `ssl-vc label`, and set `of` to their folder, which "
                f"{config.of!r} is not."
            )
        if config.of == "speakers":
            return SpeakerLabels(self.train.clips)
        if config.of == "phones":
            clips = self.train.clips + (self.valid.clips if self.valid else [])
            other_kinds = {of.of for of in self.config.iterations[number - 1].labels} - {"phones", "speakers"}
            phones = align(clips, self.folder / "phones")
            return AlignmentLabels(phones, config.states, require_alignment=not other_kinds)
        return self._kmeans_labels(config, number, folder, self.train)

    def _kmeans_labels(self, config: LabelConfig, number: int, folder: Path, train: ClipAudio) -> KMeansLabels:
        """Label all clips by k-means, fitted on the training clips, or by codes, and evaluate the labels once."""
        splits = [train, self.valid] if self.valid else [train]
        location = {clip.key: (audio, index) for audio in splits for index, clip in enumerate(audio.clips)}

        def read(clip: Clip) -> Samples:
            if clip.source is not None:  # the stored audio is the source's, but labels are of the clip itself
                return decode(clip.path)
            audio, index = location[clip.key]
            return audio.read(index)

        features = self._features(config, number)
        labels = label_clips(
            [clip for audio in splits for clip in audio.clips],
            folder,
            features,
            model=self._clusters(features, folder, train.clips, read) if isinstance(features, CodeFeatures) else None,
            clusters=config.clusters,
            seed=self.config.seed,
            fit_hours=config.hours,
            fit_on=train.clips,
            keep=(self._iteration_folder(number) / FINGERPRINT).is_file(),
            read=read,
        )
        if self.state.is_main_process and not (self._iteration_folder(number) / DONE).is_file():
            phones = PhoneAlignments.open(self.config.phones) if self.config.phones else None
            metrics = labels.evaluate(phones)
            log.info("%s: %s", folder, ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        return labels

    def _clusters(
        self, features: CodeFeatures, folder: Path, clips: list[Clip], read: Callable[[Clip], Samples]
    ) -> KMeans:
        """Return the clusters of a quantiser's codes: those of existing labels, or of the training clips."""
        if (folder / "kmeans.safetensors").is_file():
            existing = KMeans.load(folder / "kmeans.safetensors")
            if existing.facts == features.facts:
                return existing
        return features.clusters(torch.from_numpy(read(clip)) for clip in clips)

    def _features(self, config: LabelConfig, number: int) -> Features:
        if config.of == "mfcc":
            return MfccFeatures()
        name = config.of.removesuffix(CODES)
        source = str(self._iteration_folder(number - 1) / "model") if name == "previous" else name
        encoder = load_encoder(source)
        if config.of.endswith(CODES):
            return CodeFeatures(encoder, read_quantiser(source), self.state.device)
        layers = (config.layer, encoder.config.matching_layer, self.config.matching_layer)
        layer = next((n for n in layers if n is not None), None)
        if layer is None:
            raise ValueError(f"the labels of iteration {number} need a layer, from 0 to {encoder.config.depth}.")
        return LayerFeatures(encoder, layer, self.state.device)

    def _iteration_fingerprint(self, number: int, labels: list[LabelSet], previous: str) -> str:
        """Return a hash of all that decides an iteration's result; later versions must not change it."""
        config = self.config
        settings = asdict(config.train_config(number))
        for name in MUTABLE_SETTINGS:
            del settings[name]
        shape = config.encoder_config(number).as_stored()
        parts = [settings, config.iterations[number - 1].start, shape, config.seed, previous]
        parts += [[of.fingerprint for of in labels], config.noise_clips, config.noise_split]
        scales = [of.weight for of in config.iterations[number - 1].labels]
        parts += [scales] if set(scales) != {1.0} else []
        sources = sources_fingerprint(self.train.clips) if self.train else ""  # which labels do not depend on
        parts += [sources] if sources else []
        if OBJECTIVES[config.train_config(number).objective][0].two_views and self.train:
            parts.append(parallel_clips(self.train.clips))
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()

    def _run_iteration(self, number: int, labels: list[LabelSet], fingerprint: str, on_step: OnStep | None) -> None:
        folder, config = self._iteration_folder(number), self.config.train_config(number)
        done = folder / DONE
        if (folder / FINGERPRINT).is_file() and (folder / FINGERPRINT).read_text(encoding="utf-8") != fingerprint:
            raise ValueError(
                f"{folder} holds a training with other settings; choose another folder, or remove it to restart that "
                "iteration."
            )
        if done.is_file():
            result = json.loads(done.read_text(encoding="utf-8"))
            log.info("iteration %d is done, after %d steps and %g minutes", number, result["step"], result["minutes"])
            return
        set_seed(self.config.seed + number)
        trainer = self._trainer(number, config, labels)
        if trainer.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FINGERPRINT).write_text(fingerprint, encoding="utf-8")
        trainer.resume()
        trainer.run(None if on_step is None else partial(on_step, number, trainer))
        if trainer.is_main:
            result = {"step": trainer.step, "minutes": round(trainer.elapsed / 60, 2)}
            done.write_text(json.dumps(result), encoding="utf-8")
        trainer.accelerator.wait_for_everyone()
        trainer.accelerator.free_memory()

    def _trainer(self, number: int, config: TrainConfig, labels: list[LabelSet]) -> Trainer:
        encoder = self._initial_encoder(number)
        settings, make_objective = self._objective_settings(config), OBJECTIVES[config.objective][1]
        scales = [of.weight for of in self.config.iterations[number - 1].labels]
        objective = make_objective(settings, encoder, [of.clusters for of in labels], scales)
        tokenizer = self._tokenizer(config) if config.text.weight else None
        ctc_head = CtcHead(encoder.config.dim, len(tokenizer.symbols)) if tokenizer else None
        train = self.train
        if config.trimmed:
            phones = [of.phones for of in labels if isinstance(of, AlignmentLabels)]
            if not phones or train is None:
                raise ValueError("trimmed needs phone alignments; add labels of phones, and do not use shards.")
            train, labels = trim_silence(train, labels, phones[0])
        collator = partial(
            Collator,
            labels,
            settings.prepare,
            longest=config.longest,
            tokenize=TranscriptTokenizer(tokenizer, config.text.languages) if tokenizer else None,
            speeds=config.speeds,
            channel=config.channel,
            two_views=settings.two_views,
        )
        seed, valid = self.config.seed, None
        if train is None:
            batches = streamed_batches(self.config.clips, collator(), config, seed)
        else:
            batches = indexed_batches(train, collator(), config, seed)
        if self.valid:
            valid = ClipDataset(usable_clips(self.valid, labels, config.shortest), collator(training=False), seed)
        folder = self._iteration_folder(number)
        return Trainer(config, folder, encoder, objective, batches, valid, ctc_head, seed=seed)

    def _objective_settings(self, config: TrainConfig) -> Settings:
        names = {field.name for field in fields(OBJECTIVES[config.objective][0])}  # type: ignore[arg-type]
        if not self.config.noise_clips or "noises" not in names:
            return config.objective_settings()
        clips = read_manifest(self.config.noise_clips, self.config.noise_split)
        order = np.random.default_rng(self.config.seed).permutation(len(clips))  # as only an hour is kept
        return config.objective_settings(noises=NoiseBank([clips[index] for index in order]))

    def _initial_encoder(self, number: int) -> SpeechEncoder:
        start, shape = self.config.iterations[number - 1].start, self.config.encoder_config(number)
        if start.removesuffix(CODES) == "previous":
            start = start.replace("previous", str(self._iteration_folder(number - 1) / "model"))
        return initial_encoder(start, shape)

    def _tokenizer(self, config: TrainConfig) -> CharacterTokenizer | PhonemeTokenizer:
        if config.text.units == "phones":
            return PhonemeTokenizer(Path(config.text.dictionary) if config.text.dictionary else None)
        if self.train is None:
            return CharacterTokenizer()
        return CharacterTokenizer.of(clip.text for clip in self.train.clips)


def _process_options() -> dict[str, Any]:
    """Return options of the process group, with a timeout that suffices while the main process makes labels."""
    return {"timeout": timedelta(hours=24)} if torch.distributed.is_available() else {}
