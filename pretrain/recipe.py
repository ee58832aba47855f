"""Pretraining recipes: the dataclasses of the YAML files in configs/pretrain."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pretrain.encoder.config import ONE_WAY, EncoderConfig
from pretrain.training.config import TextConfig, TrainConfig, refuse_unknown, require_choice, require_minimum

CODES = ":codes"  # after the name of an encoder: its quantiser rather than its layers

# settings that may change when a training is resumed
MUTABLE_SETTINGS = (
    *("steps", "minutes", "learning_rate", "workers"),
    *("log_every", "valid_every", "valid_minutes", "save_every"),
)


@dataclass(frozen=True)
class LabelConfig:
    """A set of labels that an iteration predicts.

    Attributes:
        of: where they come from: k-means over `mfcc`, the `previous` iteration's encoder, or an encoder's folder or
            hub id; `previous:codes` or `FOLDER:codes`, an encoder's quantiser; `phones`, by forced alignment of the
            transcripts; `speakers`; or a folder of labels.
        states: consecutive parts that each phone is split into.
        weight: scale of the encoder's gradients from these labels; below 0 they are adversarial, which removes, for
            example, speaker information.
        layer: of the encoder; its recommended one if None.
        clusters: number of k-means clusters.
        hours: of speech to fit k-means on.
    """

    of: str = "mfcc"
    layer: int | None = None
    clusters: int = 100
    hours: float = 10.0
    states: int = 1
    weight: float = 1.0

    def __post_init__(self) -> None:
        require_minimum(self, clusters=2, hours=0.001, states=1)
        known = self.of in ("mfcc", "previous", "phones", "speakers") or {"/", ":"} & set(self.of)
        if not known and not Path(self.of).exists():
            raise ValueError(
                f"labels of {self.of!r} are unknown; possible are mfcc, previous, phones, speakers, a folder of "
                "labels or an encoder, and a hub id."
            )


@dataclass(frozen=True)
class Iteration:
    """One iteration: labels, then a training on them.

    Attributes:
        labels: one set or several.
        start: initial encoder: random if empty, `previous` (iteration), or an encoder's folder or hub id; untrained
            blocks are added on top where the shape is deeper. With `:codes` at its end, only what makes codes is taken
            over: front end and quantiser.
        shape: changes to the recipe's `shape`.
        train: changes to the recipe's `train`, whose settings are not those of another objective.
    """

    labels: list[LabelConfig] = field(default_factory=list)
    start: str = ""
    shape: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A pretraining recipe.

    Attributes:
        encoder: architecture, by the name of a method of `EncoderConfig`.
        shape: changes to that architecture.
        clips: a folder, a Kaldi-style folder, or a manifest (see `pretrain.data.manifest.read_manifest`).
        split: rows of the manifest to use.
        valid_clips: the same, for validation; none if empty.
        valid_split: rows of that manifest.
        noise_clips: the same, for mixing with noise.
        noise_split: rows of that manifest.
        storage: `pack` (audio decoded once into one file), `files` (decoded on every read), or `shards` (`clips` are
            tar files, read sequentially).
        phones: a folder of phone alignments, to measure the labels' phone purity and PNMI; none if empty.
        matching_layer: of the exported encoder.
        centred: shift that layer to zero mean (see `pretrain.training.centring`), and drop the blocks above it.
        cepstra: weight of cepstra appended to that layer's frames for matching; 0 for none.
        half: store the exported weights in float16, which halves the file.
        seed: of all randomness.
        train: training settings of all iterations.
        iterations: in order.
    """

    encoder: str = "hubert_base"
    shape: dict[str, Any] = field(default_factory=dict)
    clips: str = ""
    split: str | None = None
    valid_clips: str = ""
    valid_split: str | None = None
    noise_clips: str = ""
    noise_split: str | None = None
    storage: str = "pack"
    phones: str = ""
    matching_layer: int | None = None
    centred: bool = False
    cepstra: float = 0.0
    half: bool = False
    seed: int = 0
    train: TrainConfig = field(default_factory=TrainConfig)
    iterations: list[Iteration] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_choice(self, storage=("pack", "files", "shards"))
        if self.centred and (not self.matching_layer or self.storage == "shards"):
            raise ValueError("centred needs a matching_layer of 1 or more, and clips that are not in shards.")
        if not isinstance(getattr(EncoderConfig, self.encoder, None), type(EncoderConfig.tiny)):
            raise ValueError(f"encoder is {self.encoder!r}; possible are the shapes of EncoderConfig, such as tiny.")
        require_minimum(self, seed=0, cepstra=0)
        if self.centred and self.encoder_config().context in ONE_WAY:
            raise ValueError("centred needs a context of transformer or conformer blocks; set centred to false.")
        for number, iteration in enumerate(self.iterations, 1):
            needed = [iteration.start, *(of.of for of in iteration.labels)]
            if number == 1 and any(of.removesuffix(CODES) == "previous" for of in needed):
                raise ValueError("the first iteration has no previous one.")
            shape = self.encoder_config(number)
            train = self.train_config(number)
            objective = train.objective_settings()
            objective.check(shape)
            if not iteration.labels and objective.needs_labels:
                raise ValueError(f"iteration {number} has no labels.")
            if train.settings.get("noise_probability") and not self.noise_clips:
                raise ValueError("noise_probability is above 0 without noise; set noise_clips, or 0.")
            layers = [of.layer for of in iteration.labels if of.of == "previous"]
            if self.matching_layer is None and None in layers:
                raise ValueError(f"the labels of iteration {number} need a layer, from 0 to {shape.depth}.")
            if not iteration.start:
                layers += [train.text.layer, train.settings.get("layer")]
            for layer in (*layers, self.matching_layer):
                if layer is not None and not 0 <= layer <= shape.depth:
                    known = f"this encoder has layers 0 to {shape.depth}"
                    raise ValueError(f"iteration {number} names layer {layer}; {known}.")

    def encoder_config(self, number: int | None = None) -> EncoderConfig:
        """Return the encoder's architecture, in iteration `number` (from 1) or in all of them."""
        changes = self.iterations[number - 1].shape if number else {}
        for shape in (self.shape, changes):
            refuse_unknown(shape, EncoderConfig, "shape")
        config: EncoderConfig = getattr(EncoderConfig, self.encoder)(**{**self.shape, **changes})
        return config

    def train_config(self, number: int) -> TrainConfig:
        """Return the training settings of iteration `number` (from 1)."""
        changes = dict(self.iterations[number - 1].train)
        refuse_unknown(changes, TrainConfig, f"train of iteration {number}")
        if "text" in changes:
            refuse_unknown(changes["text"], TextConfig, f"text of iteration {number}")
            changes["text"] = TextConfig(**{**_shallow_dict(self.train.text), **changes["text"]})
        same = changes.get("objective", self.train.objective) == self.train.objective
        changes["settings"] = {**(self.train.settings if same else {}), **changes.get("settings", {})}
        for name in {"betas", "speeds"} & changes.keys():
            changes[name] = tuple(changes[name])
        return TrainConfig(**{**_shallow_dict(self.train), **changes})


def _shallow_dict(config: Any) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in fields(config)}
