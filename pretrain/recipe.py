"""Pretraining recipes: the dataclasses of the YAML files in configs/pretrain."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pretrain.encoder.config import EncoderConfig
from pretrain.objectives import OBJECTIVES, Settings

# settings that may change when a training is resumed
MUTABLE_SETTINGS = (
    *("steps", "minutes", "learning_rate", "workers"),
    *("log_every", "valid_every", "valid_minutes", "save_every"),
)


def require_choice(config: Any, **possible: Any) -> None:
    """Raise ValueError for a value that is not among the possible ones."""
    for name, values in possible.items():
        if getattr(config, name) not in values:
            raise ValueError(f"{name} is {getattr(config, name)!r}; possible are {', '.join(map(str, values))}.")


def require_minimum(config: Any, **minimum: float) -> None:
    """Raise ValueError for a number below its minimum."""
    for name, least in minimum.items():
        value = getattr(config, name)
        if not isinstance(value, int | float):
            raise ValueError(f"{name} is {value!r}; it must be a number.")
        if not value >= least:
            raise ValueError(f"{name} is {value}; it must be at least {least}.")


@dataclass(frozen=True)
class TextConfig:
    """An auxiliary CTC loss, on the uncropped clips with a transcript.

    Attributes:
        weight: of the CTC loss (a mean over tokens) relative to the objective's; 0 for none.
        layer: that the CTC head reads; the last if None.
        units: `phones` (by `dictionary`) or `characters`.
        dictionary: pronunciations in CMU's format; pocketsphinx's English one if empty.
        languages: of the transcripts to use; all if empty.
    """

    weight: float = 0.0
    layer: int | None = None
    units: str = "phones"
    dictionary: str = ""
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_choice(self, units=("phones", "characters"))
        require_minimum(self, weight=0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training of one iteration. The defaults are HuBERT Base's.

    Attributes:
        objective: hubert or wavlm.
        settings: of the objective, where they differ from its defaults.
        text: an auxiliary CTC loss.
        seconds: of audio in a batch, over all processes, padding included.
        longest: maximum duration of a crop, in seconds.
        shortest: minimum duration of a clip, in seconds; shorter ones are not used.
        speeds: range of random speed perturbation, as factors.
        trimmed: cut leading and trailing silence, where phones are predicted (see `pretrain.labels.trim`).
        channel: probability of a random channel response (see `pretrain.data.channel`).
        accumulate: batches per step.
        steps: number of optimizer steps.
        minutes: maximum duration, at whose end the learning rate is 0; 0 for no limit.
        learning_rate: its peak.
        warm_up: fraction of the training in which the learning rate rises; then it falls, both linearly.
        betas: of AdamW.
        epsilon: of AdamW.
        weight_decay: of AdamW.
        max_norm: gradients are clipped to this norm; 0 for no clipping.
        ema: decay of the exponential moving average of the encoder, which is then what is kept; 0 for none.
        precision: `float32`, `bf16`, or `auto` (bf16 where the hardware supports it natively).
        workers: processes that load clips.
        log_every: steps between log entries.
        valid_every: steps between validations.
        save_every: steps between checkpoints.
        valid_minutes: maximum amount of audio per validation.
    """

    objective: str = "hubert"
    settings: dict[str, Any] = field(default_factory=dict)
    text: TextConfig = field(default_factory=TextConfig)
    seconds: float = 2800.0
    longest: float = 15.6
    shortest: float = 2.0
    speeds: tuple[float, float] = (1.0, 1.0)
    trimmed: bool = False
    channel: float = 0.0
    accumulate: int = 1
    steps: int = 250_000
    minutes: float = 0.0
    learning_rate: float = 5e-4
    warm_up: float = 0.08
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-6
    weight_decay: float = 0.01
    max_norm: float = 10.0
    ema: float = 0.0
    precision: str = "auto"
    workers: int = 2
    log_every: int = 100
    valid_every: int = 1000
    save_every: int = 1000
    valid_minutes: float = 10.0

    def __post_init__(self) -> None:
        require_choice(self, objective=tuple(OBJECTIVES), precision=("float32", "bf16", "auto"))
        require_minimum(self, seconds=0.1, longest=0.1, shortest=0.025, accumulate=1, steps=1, minutes=0, workers=0)
        require_minimum(self, log_every=1, valid_every=1, save_every=1, max_norm=0, weight_decay=0, learning_rate=0)
        require_minimum(self, warm_up=0, ema=0, valid_minutes=0.01, epsilon=0)
        if not 0.5 <= self.speeds[0] <= self.speeds[1] <= 2:
            raise ValueError(
                f"speeds are {self.speeds[0]} to {self.speeds[1]}; possible is 0.5 to 2, the slower first."
            )
        if not 0 <= self.channel <= 1:
            raise ValueError(f"channel is {self.channel}; it is a probability, 0 to 1.")
        for name in ("warm_up", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; possible is 0 to below 1.")
        self.objective_settings()

    def objective_settings(self, **extra: Any) -> Settings:
        """Return the objective's settings; raise ValueError for an unknown one."""
        kind, _ = OBJECTIVES[self.objective]
        _refuse_unknown(self.settings, kind, f"settings of {self.objective}")
        try:
            return kind(**{**self.settings, **extra})
        except TypeError as error:
            raise ValueError(f"settings of {self.objective} cannot be used: {error}.") from None

    def learning_rate_at(self, progress: float) -> float:
        """Return the learning rate at `progress` (0 to 1) of the training."""
        if progress < self.warm_up:
            return self.learning_rate * progress / self.warm_up
        return self.learning_rate * max(1.0 - progress, 0.0) / (1.0 - self.warm_up)


@dataclass(frozen=True)
class LabelConfig:
    """A set of labels that an iteration predicts.

    Attributes:
        of: where they come from: k-means over `mfcc`, the `previous` iteration's encoder, or an encoder's folder or
            hub id; `phones`, by forced alignment of the transcripts; `speakers`; or a folder of labels.
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
        start: initial encoder: random if empty, `previous` (iteration), or an encoder's folder or hub id.
        train: changes to the recipe's `train`.
    """

    labels: list[LabelConfig] = field(default_factory=list)
    start: str = ""
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
        depth = self.encoder_config().depth
        for number, iteration in enumerate(self.iterations, 1):
            if number == 1 and (iteration.start == "previous" or any(of.of == "previous" for of in iteration.labels)):
                raise ValueError("the first iteration has no previous one.")
            if not iteration.labels:
                raise ValueError(f"iteration {number} has no labels.")
            train = self.train_config(number)
            if train.settings.get("noise_probability") and not self.noise_clips:
                raise ValueError("noise_probability is above 0 without noise; set noise_clips, or 0.")
            layers = [of.layer for of in iteration.labels if of.of == "previous"]
            if self.matching_layer is None and None in layers:
                raise ValueError(f"the labels of iteration {number} need a layer, from 0 to {depth}.")
            if not iteration.start:
                layers += [train.text.layer, train.settings.get("layer")]
            for layer in (*layers, self.matching_layer):
                if layer is not None and not 0 <= layer <= depth:
                    raise ValueError(f"iteration {number} names layer {layer}; this encoder has layers 0 to {depth}.")

    def encoder_config(self) -> EncoderConfig:
        """Return the encoder's architecture."""
        _refuse_unknown(self.shape, EncoderConfig, "shape")
        config: EncoderConfig = getattr(EncoderConfig, self.encoder)(**self.shape)
        return config

    def train_config(self, number: int) -> TrainConfig:
        """Return the training settings of iteration `number` (from 1)."""
        changes = dict(self.iterations[number - 1].train)
        _refuse_unknown(changes, TrainConfig, f"train of iteration {number}")
        if "text" in changes:
            _refuse_unknown(changes["text"], TextConfig, f"text of iteration {number}")
            changes["text"] = TextConfig(**{**_shallow_dict(self.train.text), **changes["text"]})
        if "settings" in changes:
            changes["settings"] = {**self.train.settings, **changes["settings"]}
        for name in {"betas", "speeds"} & changes.keys():
            changes[name] = tuple(changes[name])
        return TrainConfig(**{**_shallow_dict(self.train), **changes})


def _refuse_unknown(settings: Any, kind: Any, what: str) -> None:
    if not isinstance(settings, dict):
        raise ValueError(f"{what} is {settings!r}; it must be a mapping of names to values.")
    possible = sorted(f.name for f in fields(kind))
    for name in settings:
        if name not in possible:
            raise ValueError(f"{what} has {name!r}; possible are {', '.join(possible)}.")


def _shallow_dict(config: Any) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in fields(config)}
