"""How a vocoder is trained: the settings, who judges it, and what it is compared by."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vocoder.kinds import KINDS
from vocoder.mel import MelConfig, mel_read
from vocoder.network import NeuralVocoder, VocoderConfig
from vocoder.training.discriminators import (
    Judgement,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    MultiScaleDiscriminator,
)
from vocoder.training.losses import ADVERSARIAL, MelLoss, MultiResolutionSTFTLoss, MultiScaleMelLoss

# when a training goes on
MAY_CHANGE = {"steps", "minutes", "learning_rate", "max_norm", "log_every", "valid_every", "save_every", "workers"}
DISCRIMINATORS: dict[str, Callable[[], nn.Module]] = {
    "mpd": MultiPeriodDiscriminator,
    "msd": MultiScaleDiscriminator,
    "mrd": MultiResolutionDiscriminator,
    "mpd-slim": lambda: MultiPeriodDiscriminator((16, 32, 64, 128, 128)),
    "msd-slim": lambda: MultiScaleDiscriminator((32, 32, 64, 128, 256, 256, 256)),
    "mrd-slim": lambda: MultiResolutionDiscriminator(16, (1024, 512, 256)),
}


@dataclass(frozen=True)
class TrainConfig:
    """How a vocoder is trained. The defaults are HiFi-GAN's where the paper has one.

    Attributes:
        vocoder: hifigan, vocos, bigvgan or unit-hifigan.
        shape: what differs from that vocoder's defaults.
        start_from: weights to go on from (see `vocoder.kinds.load`) instead of random ones; its shape holds then.
        features: `mel` (made from each segment), `ssl` (of `encoder`), or `frames` (files named in the table of clips).
        mel: what differs from the defaults of `MelConfig`.
        encoder: for `ssl`: whose frames.
        layer: for `ssl`: which; the encoder's own choice if None.
        normalized: for `ssl`: whether the encoder's input is normalised; its own habit if None.
        clips: a folder of sound files, or a table (see `vocoder.training.data.find_clips`).
        split: which rows of that table.
        valid_clips: the same, to validate on; none if empty.
        valid_split: which rows of that table.
        valid_seconds: how much of each of at most 16 clips is validated on.
        hide: columns of frames that some segments lack, from and to.
        hidden: how many of the segments, 0 to 1; so the vocoder does not lean on what those columns tell.
        segment: frames in a segment.
        batch: segments in a step, of all processes together.
        steps: how many.
        adversarial_from: the step from which discriminators take part.
        discriminators: which: mpd, msd, mrd, or their slim shapes mpd-slim, msd-slim, mrd-slim.
        adversarial: `least_squares` or `hinge`.
        mel_loss: `single`, `multi` (seven scales), or `long`: the four of them that hear no single pulse of a voice,
            since when the pulses of a `harmonic` vocoder come is not learned.
        mel_weight: of the mel loss.
        stft_weight: of the multi-resolution STFT loss; 0 for none.
        adversarial_weight: of the game.
        feature_weight: of feature matching.
        learning_rate: at the start, of both sides.
        betas: of AdamW.
        weight_decay: of AdamW.
        schedule: `exponential` (times `decay` every thousand steps), `cosine` (to nothing at `steps`) or `constant`.
        decay: of the exponential schedule.
        max_norm: gradients longer than this are shortened; 0 for never.
        average: how much of the averaged generator stays in a step; 0 for none.
        half: whether the model's weights on disk are rounded to float16, which halves the file.
        precision: `no` (float32) or `bf16`.
        seed: of weights and segments.
        workers: processes that read segments.
        minutes: stop and save after so long; 0 for never.
        log_every: steps.
        valid_every: steps.
        save_every: steps.
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
                raise ValueError(f"{name} is {getattr(self, name)!r}; possible are {', '.join(values)}.")
        if not self.discriminators:
            raise ValueError("discriminators is empty; adversarial_from=STEPS is how to train without them.")
        for name in self.discriminators:
            if name not in DISCRIMINATORS:
                raise ValueError(f"discriminators has {name!r}; possible are {', '.join(DISCRIMINATORS)}.")
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
            raise ValueError(f"betas is {self.betas}; both must lie from 0 to below 1.")
        if self.shape.get("kind", self.vocoder) != self.vocoder:
            raise ValueError(f"shape.kind is {self.shape['kind']!r}; `vocoder` says which it is.")
        try:
            self.generator_config()
            MelConfig(**self.mel)
        except TypeError as error:
            raise ValueError(
                f"shape or mel has a setting that does not exist, or is of the wrong kind ({error})."
            ) from None
        if not 0 <= self.hide[0] <= self.hide[1]:
            raise ValueError(f"hide is {self.hide}; it goes from a column to a later one.")
        if not 0 <= self.hidden <= 1:
            raise ValueError(f"hidden is {self.hidden}; it is a share, from 0 to 1.")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; it must lie from 0 to below 1.")

    def generator_config(self, **known: Any) -> VocoderConfig:
        """Give the generator's config; what `shape` says counts more than what is `known` otherwise."""
        _, kind_config = KINDS[self.vocoder]
        return kind_config(**{**known, **self.shape})

    def learning_rate_at(self, step: int) -> float:
        """Give the learning rate of a step."""
        if self.schedule == "exponential":
            return self.learning_rate * self.decay ** (step / 1000)
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1.0)))
        return self.learning_rate


class Jury(nn.Module):
    """Several discriminators as one."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.members = nn.ModuleList(DISCRIMINATORS[name]() for name in names)

    def forward(self, wav: Tensor) -> list[Judgement]:
        """Judge (batch, samples)."""
        return [judgement for member in self.members for judgement in member(wav)]


class SpectralLoss(nn.Module):
    """How far a sound's spectra are from those of the real one."""

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
        """Compare (batch, samples) with (batch, samples); `spectral` is what is learned from."""
        mel = self.mel(real, fake)
        total, parts = self.mel_weight * mel, {"mel": mel.detach()}
        if self.stft is not None:
            stft = self.stft(real, fake)
            total, parts["stft"] = total + self.stft_weight * stft, stft.detach()
        return {"spectral": total, **parts}


def mel_loss(sample_rate: int, hop_length: int) -> MelLoss:
    """Make the mel loss of HiFi-GAN for any rate."""
    return MelLoss(MelConfig(sample_rate, 1024 if sample_rate <= 24_000 else 2048, hop_length))


@torch.no_grad()
def mel_config(config: TrainConfig, start: NeuralVocoder | None) -> MelConfig:
    """Say which mel frames are learned from: at the vocoder's rate and hop, or as the weights to go on from had."""
    if start is not None:
        return mel_read(start.reads, **config.mel)
    shape = config.generator_config()
    own = {"sample_rate": shape.sample_rate, "hop_length": shape.hop_length}
    return MelConfig(**{**own, "n_fft": 1024 if shape.sample_rate <= 24_000 else 2048, **config.mel})


def refuse_other_settings(config: TrainConfig, folder: Path) -> None:
    """Refuse a folder whose training was begun with other settings, before anything in it is touched."""
    if not (folder / "state.pt").is_file():
        return
    try:
        before = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} has no readable training.json ({error}); begin in another folder.") from None
    now = json.loads(json.dumps(asdict(config)))
    changed = [key for key in now if now[key] != before.get(key) and key not in MAY_CHANGE]
    if changed:
        raise ValueError(
            f"the training in {folder} was begun with {', '.join(f'{key}={before.get(key)}' for key in changed)}; "
            "it goes on only with the same."
        )
