"""How an encoder is pretrained: the settings of a YAML file in configs/pretrain."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pretrain.encoder.config import EncoderConfig
from pretrain.objectives import OBJECTIVES, Settings

# when a training goes on, these may differ from what it was begun with
MAY_CHANGE = (
    *("steps", "minutes", "learning_rate", "workers"),
    *("log_every", "valid_every", "valid_minutes", "save_every"),
)


def checked(made: Any, **possible: Any) -> None:
    """Refuse values that are not among the possible ones."""
    for name, values in possible.items():
        if getattr(made, name) not in values:
            raise ValueError(f"{name} is {getattr(made, name)!r}; possible are {', '.join(map(str, values))}.")


def at_least(made: Any, **lowest: float) -> None:
    """Refuse numbers below the lowest possible ones."""
    for name, least in lowest.items():
        if not isinstance(getattr(made, name), int | float):
            raise ValueError(f"{name} is {getattr(made, name)!r}; it must be a number.")
        if not getattr(made, name) >= least:
            raise ValueError(f"{name} is {getattr(made, name)}; it must be at least {least}.")


@dataclass(frozen=True)
class TextConfig:
    """Learning what is said, too, by CTC on the clips whose text is known and which are not cropped.

    Attributes:
        weight: of the CTC loss (a mean over tokens) beside the objective's; 0 for none.
        layer: whose frames spell; the last if None.
        units: `phones` (of `dictionary`) or `characters`.
        dictionary: pronunciations in CMU's format; the English one that pocketsphinx brings if empty.
        languages: of the clips whose text counts; all if empty.
    """

    weight: float = 0.0
    layer: int | None = None
    units: str = "phones"
    dictionary: str = ""
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checked(self, units=("phones", "characters"))
        at_least(self, weight=0)


@dataclass(frozen=True)
class TrainConfig:
    """How one iteration learns. The defaults are HuBERT Base's.

    Attributes:
        objective: hubert or wavlm.
        settings: what differs from that objective's defaults.
        text: CTC beside it.
        seconds: of sound in a batch, of all processes together, padding counted.
        longest: seconds of a crop.
        shortest: clips of fewer seconds are left out.
        speeds: clips are played faster, at random between so many times and so many: more voices from few speakers.
        trimmed: without the silence at the ends of clips whose phones are guessed (see `pretrain.labels.trim`).
        channel: share of the clips that are heard through another channel (see `pretrain.data.channel`).
        accumulate: batches that make a step.
        steps: how many.
        minutes: end after so long, with the learning rate then at 0; 0 for no limit.
        learning_rate: the highest.
        warm_up: share of the steps in which it rises; it falls in the others, both linearly.
        betas: of AdamW.
        epsilon: of AdamW.
        weight_decay: of AdamW.
        max_norm: gradients longer than this are shortened; 0 for never.
        ema: how much of the averaged encoder stays in a step; the average is what is kept; 0 for none.
        precision: `float32`, `bf16`, or `auto` (bf16 where the hardware itself computes in it).
        workers: processes that read clips.
        log_every: steps.
        valid_every: steps.
        save_every: steps.
        valid_minutes: at most so much sound is validated on.
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
        checked(self, objective=tuple(OBJECTIVES), precision=("float32", "bf16", "auto"))
        at_least(self, seconds=0.1, longest=0.1, shortest=0.025, accumulate=1, steps=1, minutes=0, workers=0)
        at_least(self, log_every=1, valid_every=1, save_every=1, max_norm=0, weight_decay=0, learning_rate=0)
        at_least(self, warm_up=0, ema=0, valid_minutes=0.01, epsilon=0)
        if not 0.5 <= self.speeds[0] <= self.speeds[1] <= 2:
            raise ValueError(
                f"speeds are {self.speeds[0]} to {self.speeds[1]}; possible is 0.5 to 2, the slower first."
            )
        if not 0 <= self.channel <= 1:
            raise ValueError(f"channel is {self.channel}; it is a share of the clips, 0 to 1.")
        for name in ("warm_up", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; possible is 0 to below 1.")
        self.objective_settings()

    def objective_settings(self, **also: Any) -> Settings:
        """Give the objective's settings; keys it does not know are refused."""
        kind, _ = OBJECTIVES[self.objective]
        _refuse_unknown(self.settings, kind, f"settings of {self.objective}")
        try:
            return kind(**{**self.settings, **also})
        except TypeError as error:
            raise ValueError(f"settings of {self.objective} cannot be used: {error}.") from None

    def learning_rate_at(self, progress: float) -> float:
        """Give the rate where `progress` (0 to 1) of the training is done."""
        if progress < self.warm_up:
            return self.learning_rate * progress / self.warm_up
        return self.learning_rate * max(1.0 - progress, 0.0) / (1.0 - self.warm_up)


@dataclass(frozen=True)
class LabelConfig:
    """What an iteration guesses.

    Attributes:
        of: `mfcc`, `previous` (the iteration before), an encoder's folder or hub id, a folder of labels, or `phones`:
            what is said, by `pretrain.labels.align`; frames of clips without a text are not guessed then; or
            `speakers`.
        states: into how many parts, one after the other, each of those phones is divided.
        weight: what the encoder's gradients from it are multiplied by; below 0 it learns to hide it, as one may want of
            speakers.
        layer: of that encoder; its own choice if None.
        clusters: how many.
        hours: of speech to find the clusters in.
    """

    of: str = "mfcc"
    layer: int | None = None
    clusters: int = 100
    hours: float = 10.0
    states: int = 1
    weight: float = 1.0

    def __post_init__(self) -> None:
        at_least(self, clusters=2, hours=0.001, states=1)
        known = self.of in ("mfcc", "previous", "phones", "speakers") or {"/", ":"} & set(self.of)
        if not known and not Path(self.of).exists():
            raise ValueError(
                f"labels of {self.of!r} are not known; possible are mfcc, previous, phones, speakers, a folder of "
                "labels or an encoder, and a hub id."
            )


@dataclass(frozen=True)
class Iteration:
    """One round: labels, then a training.

    Attributes:
        labels: what is guessed, one set or several.
        start: random weights if empty, `previous` (the iteration before) or an encoder's folder or hub id.
        train: what differs from the recipe's `train`.
    """

    labels: list[LabelConfig] = field(default_factory=list)
    start: str = ""
    train: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PretrainConfig:
    """A whole recipe.

    Attributes:
        encoder: a shape by name: a method of `EncoderConfig`.
        shape: what differs from it.
        clips: a folder, a Kaldi-like folder, or a table (see `pretrain.data.manifest.read_manifest`).
        split: which rows of the table.
        valid_clips: the same, to validate on; none if empty.
        valid_split: which rows of that table.
        noise_clips: the same, to mix with.
        noise_split: which rows of that table.
        storage: `pack` (sound decoded once into one file), `files` (whenever it is read), or `shards` (`clips` are tar
            files, read from end to end).
        phones: a folder of phone alignments, to judge the labels by; none if empty.
        matching_layer: of the exported encoder.
        centred: whether that layer is given the mean 0 (see `pretrain.training.centre`), and the blocks above it left
            out.
        cepstra: weight of the sound's own cepstra beside that layer's frames when they are matched; 0: none.
        half: whether its weights are rounded to float16, which halves the file.
        seed: of everything random.
        train: how the iterations learn.
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
        checked(self, storage=("pack", "files", "shards"))
        if self.centred and (not self.matching_layer or self.storage == "shards"):
            raise ValueError("centred moves the matching_layer, 1 or a later one, by clips that are no shards.")
        if not isinstance(getattr(EncoderConfig, self.encoder, None), type(EncoderConfig.tiny)):
            raise ValueError(f"encoder is {self.encoder!r}; possible are the shapes of EncoderConfig, such as tiny.")
        at_least(self, seed=0, cepstra=0)
        depth = self.encoder_config().depth
        for number, iteration in enumerate(self.iterations, 1):
            if number == 1 and (iteration.start == "previous" or any(of.of == "previous" for of in iteration.labels)):
                raise ValueError("the first iteration has no previous one.")
            if not iteration.labels:
                raise ValueError(f"iteration {number} has no labels to guess.")
            trained = self.trained(number)
            if trained.settings.get("noise_probability") and not self.noise_clips:
                raise ValueError("noise_probability is above 0, but there is no noise; set noise_clips, or 0.")
            asked = [of.layer for of in iteration.labels if of.of == "previous"]
            if self.matching_layer is None and None in asked:
                raise ValueError(f"the labels of iteration {number} need a layer, from 0 to {depth}.")
            if not iteration.start:
                asked += [trained.text.layer, trained.settings.get("layer")]
            for layer in (*asked, self.matching_layer):
                if layer is not None and not 0 <= layer <= depth:
                    raise ValueError(f"iteration {number} names layer {layer}; this encoder has layers 0 to {depth}.")

    def encoder_config(self) -> EncoderConfig:
        """Give the encoder's shape."""
        _refuse_unknown(self.shape, EncoderConfig, "shape")
        made: EncoderConfig = getattr(EncoderConfig, self.encoder)(**self.shape)
        return made

    def trained(self, number: int) -> TrainConfig:
        """Give how iteration `number` (from 1) learns."""
        changes = dict(self.iterations[number - 1].train)
        _refuse_unknown(changes, TrainConfig, f"train of iteration {number}")
        if "text" in changes:
            _refuse_unknown(changes["text"], TextConfig, f"text of iteration {number}")
            changes["text"] = TextConfig(**{**_plain(self.train.text), **changes["text"]})
        if "settings" in changes:
            changes["settings"] = {**self.train.settings, **changes["settings"]}
        for name in {"betas", "speeds"} & changes.keys():
            changes[name] = tuple(changes[name])
        return TrainConfig(**{**_plain(self.train), **changes})


def _refuse_unknown(given: Any, kind: Any, what: str) -> None:
    if not isinstance(given, dict):
        raise ValueError(f"{what} is {given!r}; it must be settings, each with its name.")
    possible = sorted(f.name for f in fields(kind))
    for name in given:
        if name not in possible:
            raise ValueError(f"{what} has {name!r}; possible are {', '.join(possible)}.")


def _plain(made: Any) -> dict[str, Any]:
    return {f.name: getattr(made, f.name) for f in fields(made)}
