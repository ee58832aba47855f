"""The settings of a vocoder training, and the networks and losses that follow from them."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vocoder.files import read_json
from vocoder.kinds import KINDS
from vocoder.mel import MelConfig, mel_config_from
from vocoder.network import NeuralVocoder, VocoderConfig, apply_weight_norm
from vocoder.protocol import check_features
from vocoder.training.discriminators import (
    DiscriminatorOutput,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    MultiScaleDiscriminator,
)
from vocoder.training.losses import ADVERSARIAL, MelLoss, MultiResolutionSTFTLoss, MultiScaleMelLoss

# settings that may differ when a training is resumed
MUTABLE = {"steps", "minutes", "learning_rate", "max_norm", "log_every", "valid_every", "save_every", "workers"}
DISCRIMINATORS: dict[str, Callable[[], nn.Module]] = {
    "mpd": MultiPeriodDiscriminator,
    "msd": MultiScaleDiscriminator,
    "mrd": MultiResolutionDiscriminator,
    "mpd-slim": lambda: MultiPeriodDiscriminator((16, 32, 64, 128, 128)),
    "msd-slim": lambda: MultiScaleDiscriminator((32, 32, 64, 128, 256, 256, 256)),
    "mrd-slim": lambda: MultiResolutionDiscriminator(16, (1024, 512, 256)),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a vocoder training. The defaults are HiFi-GAN's where the paper states one.

    Attributes:
        vocoder: hifigan, vocos, bigvgan or unit-hifigan.
        shape: overrides of that vocoder's config.
        start_from: pretrained weights to fine-tune (see `vocoder.kinds.load`); `shape` is ignored then.
        features: `mel` (computed from each segment), `ssl` (of `encoder`) or `frames` (files listed in the table).
        mel: overrides of `MelConfig`.
        encoder: for `ssl`: name or folder of the encoder.
        layer: for `ssl`: its layer; the encoder's default if None.
        normalized: for `ssl`: whether the encoder's input is normalised; the encoder's default if None.
        clips: a folder of audio files, or a table (see `vocoder.training.data.find_clips`).
        split: selects rows of that table.
        valid_clips: the same, for validation; none if empty.
        valid_split: selects rows of that table.
        valid_seconds: how much of each of at most 16 clips to validate on.
        hide: range of frame columns that are masked in some segments, so that the vocoder does not rely on them.
        hidden: fraction of the segments masked, 0 to 1.
        segment: frames per segment.
        batch: segments per step, over all processes.
        steps: number of training steps.
        adversarial_from: step at which adversarial training starts.
        discriminators: of mpd, msd, mrd and their slim versions mpd-slim, msd-slim, mrd-slim.
        adversarial: `least_squares` or `hinge`.
        mel_loss: `single`, `multi` (seven scales), or `long`: the four scales too long to resolve single pulses, since
            a `harmonic` vocoder does not learn when its pulses occur.
        mel_weight: of the mel loss.
        stft_weight: of the multi-resolution STFT loss; 0 for none.
        adversarial_weight: of the generator's adversarial loss.
        feature_weight: of feature matching.
        learning_rate: initial, for generator and discriminators.
        betas: of AdamW.
        weight_decay: of AdamW.
        schedule: `exponential` (times `decay` every thousand steps), `cosine` (to 0 at `steps`) or `constant`.
        decay: of the exponential schedule.
        max_norm: gradients are clipped to this norm; 0 for no clipping.
        average: decay of the generator's moving average; 0 for none.
        half: whether the saved model's weights are rounded to float16, which halves the file.
        precision: `no` (float32) or `bf16`.
        seed: of weights and segments.
        workers: data loading processes.
        minutes: time limit, after which the training is saved and stops; 0 for none.
        log_every: steps between log entries.
        valid_every: steps between validations.
        save_every: steps between checkpoints.
    """

    vocoder: str = "vocos"
    shape: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""
    features: str = "mel"
    mel: dict[str, Any] = field(default_factory=dict)
    encoder: str = "tiny"
    layer: int | None = None
    normalized: bool | None = None
    clips: str = ""
    split: str | None = None
    valid_clips: str = ""
    valid_split: str | None = None
    valid_seconds: float = 6.0
    hide: tuple[int, int] = (0, 0)
    hidden: float = 0.0
    segment: int = 22
    batch: int = 16
    steps: int = 100_000
    adversarial_from: int = 0
    discriminators: tuple[str, ...] = ("mpd", "msd")
    adversarial: str = "least_squares"
    mel_loss: str = "single"
    mel_weight: float = 45.0
    stft_weight: float = 0.0
    adversarial_weight: float = 1.0
    feature_weight: float = 2.0
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.01
    schedule: str = "exponential"
    decay: float = 0.999
    max_norm: float = 0.0
    average: float = 0.999
    half: bool = False
    precision: str = "no"
    seed: int = 1234
    workers: int = 0
    minutes: float = 0.0
    log_every: int = 100
    valid_every: int = 1000
    save_every: int = 1000

    def __post_init__(self) -> None:
        possible = {
            "vocoder": KINDS,
            "features": ("mel", "ssl", "frames"),
            "adversarial": ADVERSARIAL,
            "mel_loss": ("single", "multi", "long"),
            "schedule": ("exponential", "cosine", "constant"),
            "precision": ("no", "bf16"),
        }
        for name, values in possible.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(values)}.")
        if not self.discriminators:
            raise ValueError("discriminators is empty; to train without them, set adversarial_from to steps.")
        for name in self.discriminators:
            if name not in DISCRIMINATORS:
                raise ValueError(f"discriminators has {name!r}; they must be of {', '.join(DISCRIMINATORS)}.")
        for name in ("segment", "batch", "steps", "log_every", "valid_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in (
            "adversarial_from",
            "learning_rate",
            "max_norm",
            "minutes",
            "workers",
            "seed",
            "decay",
            "weight_decay",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas is {self.betas}; both must be at least 0 and below 1.")
        if self.shape.get("kind", self.vocoder) != self.vocoder:
            raise ValueError(f"shape.kind is {self.shape['kind']!r}; set `vocoder` instead.")
        try:
            self.generator_config()
            MelConfig(**self.mel)
        except TypeError as error:
            raise ValueError(f"shape or mel has an unknown setting, or one of the wrong type ({error}).") from None
        if not 0 <= self.hide[0] <= self.hide[1]:
            raise ValueError(f"hide is {self.hide}; it must be a range of columns, such as (3, 259).")
        if not 0 <= self.hidden <= 1:
            raise ValueError(f"hidden is {self.hidden}; it is a fraction, from 0 to 1.")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; it must be at least 0 and below 1.")

    def generator_config(self, **inferred: Any) -> VocoderConfig:
        """Returns the generator's config; `shape` overrides what was inferred from the features."""
        _, config_class = KINDS[self.vocoder]
        return config_class(**{**inferred, **self.shape})

    def learning_rate_at(self, step: int) -> float:
        """Returns the learning rate at a step."""
        if self.schedule == "exponential":
            return self.learning_rate * self.decay ** (step / 1000)
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1.0)))
        return self.learning_rate


def new_generator(config: TrainConfig, start: NeuralVocoder | None, dim: int, reads: dict[str, Any]) -> NeuralVocoder:
    """Returns the generator to train: `start`, or a random one for frames of size `dim`."""
    vocoder, _ = KINDS[config.vocoder]
    if start is None:
        generator = vocoder(config.generator_config(dim=dim, reads=reads))
    elif not isinstance(start, vocoder):
        raise ValueError(f"start_from is a {start.config.kind}; vocoder is {config.vocoder!r}.")
    else:
        generator = start
        check_features(generator.reads, reads, f"what {config.start_from} is to be fine-tuned on")
    rate, hop = (reads.get(name) for name in ("sample_rate", "hop_length"))
    if rate and hop and hop * generator.sample_rate != generator.hop_length * rate:
        raise ValueError(
            f"a frame of {hop} samples at {rate} Hz is not as long as the {generator.hop_length} samples at "
            f"{generator.sample_rate} Hz that the vocoder generates for it; set the hop or the rates in `shape`."
        )
    if generator.trains_with_weight_norm:
        apply_weight_norm(generator)
    return generator


class Discriminators(nn.Module):
    """Several discriminators as one."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.members = nn.ModuleList(DISCRIMINATORS[name]() for name in names)

    def forward(self, wav: Tensor) -> list[DiscriminatorOutput]:
        """Score (batch, samples)."""
        return [output for member in self.members for output in member(wav)]


class SpectralLoss(nn.Module):
    """The weighted sum of mel and STFT losses."""

    def __init__(self, config: TrainConfig, sample_rate: int, hop_length: int) -> None:
        super().__init__()
        if config.mel_loss == "single":
            self.mel: nn.Module = mel_loss(sample_rate, hop_length)
        else:
            scales = MultiScaleMelLoss.SCALES
            self.mel = MultiScaleMelLoss(sample_rate, scales if config.mel_loss == "multi" else scales[-4:])
        self.stft = MultiResolutionSTFTLoss() if config.stft_weight else None
        self.mel_weight, self.stft_weight = config.mel_weight, config.stft_weight

    def forward(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Returns the losses of (batch, samples); `spectral` is their weighted sum, with gradients."""
        mel = self.mel(real, fake)
        total, parts = self.mel_weight * mel, {"mel": mel.detach()}
        if self.stft is not None:
            stft = self.stft(real, fake)
            total, parts["stft"] = total + self.stft_weight * stft, stft.detach()
        return {"spectral": total, **parts}


def mel_loss(sample_rate: int, hop_length: int) -> MelLoss:
    """Returns HiFi-GAN's mel loss for any sample rate."""
    return MelLoss(MelConfig(sample_rate, _n_fft(sample_rate), hop_length))


def mel_config(config: TrainConfig, start: NeuralVocoder | None) -> MelConfig:
    """Returns the mel spectrogram to train on: that of the pretrained weights, or at the vocoder's rate and hop."""
    if start is not None:
        return mel_config_from(start.reads, **config.mel)
    shape = config.generator_config()
    rate = shape.sample_rate
    return MelConfig(**{"sample_rate": rate, "hop_length": shape.hop_length, "n_fft": _n_fft(rate), **config.mel})


def _n_fft(sample_rate: int) -> int:
    return 1024 if sample_rate <= 24_000 else 2048


def check_resumable(config: TrainConfig, folder: Path) -> None:
    """Refuse to resume a training with other settings, before its folder is touched."""
    if not (folder / "state.pt").is_file():
        return
    try:
        before = read_json(folder / "training.json")
    except ValueError as error:
        raise ValueError(f"{folder} has no readable training.json ({error}); start in another folder.") from None
    now = json.loads(json.dumps(asdict(config)))
    changed = [key for key in now if now[key] != before.get(key) and key not in MUTABLE]
    if changed:
        raise ValueError(
            f"the training in {folder} was started with {', '.join(f'{key}={before.get(key)}' for key in changed)}; "
            "it can only be resumed with the same settings."
        )
