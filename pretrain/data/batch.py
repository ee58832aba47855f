"""A batch: clips side by side, cropped at random, padded and masked, perhaps played faster or heard elsewhere.

clip    |-----------------------------------------|
crop         |==========================|              begins at a whole frame, so that
labels       |0|1|2|3| ...           |T-1|             label t goes with frame t
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pretrain.data.channel import other_channel
from pretrain.data.manifest import SAMPLE_RATE, Clip, Samples
from pretrain.encoder.frontend import FIELD, HOP

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
# (wavs, their frame counts, a generator for each; whether to learn from it) -> (wavs, masks)
Prepare = Callable[[list[Samples], list[int], list[np.random.Generator], bool], tuple[list[Samples], list[Mask]]]


class LabelSet(Protocol):
    """Labels of clips by their keys, as in `pretrain.labels.labels`; -1 is nobody asked to guess."""

    @property
    def clusters(self) -> int:
        """Labels are below this."""

    @property
    def made_of(self) -> str:
        """A fingerprint of what they are made of."""

    def __contains__(self, key: str, /) -> bool:
        """Tell whether a clip has labels."""

    def __getitem__(self, key: str, /) -> Integers:
        """Give a clip's labels (frames,)."""


@dataclass(frozen=True)
class Batch:
    """Clips side by side, padded at the end.

    Attributes:
        wav: (batch, samples).
        lengths: samples of each (batch,).
        counts: frames of each (batch,).
        mask: True where the encoder must guess (batch, frames).
        labels: of each label set (sets, batch, frames); -1 beyond a clip's end, and where it is not known.
        tokens: what is said, where that is known (batch, tokens).
        token_counts: how many tokens that is; 0 where it is not known (batch,).
    """

    wav: Tensor
    lengths: Tensor
    counts: Tensor
    mask: Tensor
    labels: Tensor
    tokens: Tensor
    token_counts: Tensor

    def to(self, device: torch.device) -> Self:
        """Move all of it."""
        parts = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return type(self)(**parts)

    @property
    def seconds(self) -> float:
        """How much sound it holds, without the padding."""
        return float(self.lengths.sum()) / SAMPLE_RATE


class Maker:
    """Makes batches of clips.

    Args:
        labels: for each label set, a clip's labels by its key.
        prepare: the objective's part: masks, mixtures.
        longest: seconds of a crop.
        spell: a clip's tokens; None where they are not known.
        speeds: play clips faster, at random between so many times and so many, as other people would speak.
        channel: how many clips come through another channel, see `pretrain.data.channel`.
        training: crop, play and hear at random and let `prepare` change the sound; else begin at the beginning.
    """

    def __init__(
        self,
        labels: Sequence[LabelSet],
        prepare: Prepare,
        *,
        longest: float,
        spell: Callable[[Clip], list[int] | None] | None = None,
        speeds: tuple[float, float] = (1.0, 1.0),
        channel: float = 0.0,
        training: bool = True,
    ) -> None:
        self.labels, self.prepare, self.spell, self.training = labels, prepare, spell, training
        self.speeds, self.channel = (speeds, channel) if training else ((1.0, 1.0), 0.0)
        self.longest = round(longest * SAMPLE_RATE)

    def __call__(self, clips: Sequence[tuple[Clip, Samples]], generators: list[np.random.Generator]) -> Batch:
        """Make one batch; each clip comes with what to draw from."""
        crops = [self._crop(clip, wav, rng) for (clip, wav), rng in zip(clips, generators, strict=True)]
        counts = [crop.frames for crop in crops]
        wavs, masks = self.prepare([crop.wav for crop in crops], counts, generators, self.training)
        tokens = [torch.tensor(crop.tokens, dtype=torch.long) for crop in crops]
        return Batch(
            wav=pad_sequence([torch.from_numpy(wav) for wav in wavs], batch_first=True),
            lengths=torch.tensor([len(wav) for wav in wavs]),
            counts=torch.tensor(counts),
            mask=pad_sequence([torch.from_numpy(mask) for mask in masks], batch_first=True),
            labels=self._padded([crop.labels for crop in crops], max(counts)),
            tokens=pad_sequence(tokens, batch_first=True),
            token_counts=torch.tensor([len(row) for row in tokens]),
        )

    def _crop(self, clip: Clip, wav: Samples, rng: np.random.Generator) -> "_Crop":
        slowest, fastest = self.speeds
        speed = 1.0 if slowest == fastest == 1.0 else math.exp(rng.uniform(math.log(slowest), math.log(fastest)))
        first, tokens, longest = 0, None, int(self.longest * speed)
        if len(wav) > longest:
            first = int(rng.integers((len(wav) - longest) // HOP + 1)) if self.training else 0
            wav = wav[first * HOP : first * HOP + longest]
        elif self.spell and clip.text:  # of a part of a clip nobody knows what is said in it
            tokens = self.spell(clip)
        frames = (len(wav) - FIELD) // HOP + 1
        labels = [of[clip.key][first : first + frames] for of in self.labels]
        if any(len(row) < frames for row in labels):
            raise ValueError(f"the labels of {clip.key} are shorter than its sound; make them again.")
        if speed != 1.0:
            wav, labels = faster(wav, labels, speed)
            frames = len(labels[0])
        if self.channel and rng.random() < self.channel:
            wav = other_channel(wav, rng)
        return _Crop(wav, frames, labels, tokens or [])

    def _padded(self, labels: list[list[Integers]], longest: int) -> Tensor:
        """Lay labels side by side: (sets, batch, frames)."""
        laid = np.full((len(self.labels), len(labels), longest), -1)
        for row, sets in enumerate(labels):
            for of, values in enumerate(sets):
                laid[of, row, : len(values)] = values
        return torch.from_numpy(laid)


def faster(wav: Samples, labels: Sequence[Integers], speed: float) -> tuple[Samples, list[Integers]]:
    """Play a wav (samples,) so many times as fast, so higher and from a smaller mouth; its labels (frames,) go along.

    A frame takes the label of the frame whose centre it then hears.
    """
    played = soxr.resample(wav, speed * SAMPLE_RATE, SAMPLE_RATE, quality="LQ")
    centres = np.arange(max((len(played) - FIELD) // HOP + 1, 1)) * HOP + FIELD / 2
    heard = ((centres * speed - FIELD / 2) / HOP).round().astype(np.int64)
    return played, [row[heard.clip(0, len(row) - 1)] for row in labels]


class _Crop(NamedTuple):
    wav: Samples
    frames: int
    labels: list[Integers]
    tokens: list[int]
