"""The settings of one training: of its objective, data, optimizer and log."""

from dataclasses import dataclass, field, fields
from typing import Any

from pretrain.objectives import OBJECTIVES, Settings


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


def refuse_unknown(settings: Any, kind: Any, what: str) -> None:
    """Raise ValueError for a setting that a dataclass does not have."""
    if not isinstance(settings, dict):
        raise ValueError(f"{what} is {settings!r}; it must be a mapping of names to values.")
    possible = sorted(f.name for f in fields(kind))
    for name in settings:
        if name not in possible:
            raise ValueError(f"{what} has {name!r}; possible are {', '.join(possible)}.")


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
        objective: a name in `pretrain.objectives.OBJECTIVES`.
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
        refuse_unknown(self.settings, kind, f"settings of {self.objective}")
        try:
            return kind(**{**self.settings, **extra})
        except TypeError as error:
            raise ValueError(f"settings of {self.objective} cannot be used: {error}.") from None

    def learning_rate_at(self, progress: float) -> float:
        """Return the learning rate at `progress` (0 to 1) of the training."""
        if progress < self.warm_up:
            return self.learning_rate * progress / self.warm_up
        return self.learning_rate * max(1.0 - progress, 0.0) / (1.0 - self.warm_up)
