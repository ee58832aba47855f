"""Collation: clips are cropped, augmented, masked and padded to a batch.

clip    |-----------------------------------------|
crop         |==========================|              starts at a frame boundary, so that
labels       |0|1|2|3| ...           |T-1|             label t belongs to frame t
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

from pretrain.data.channel import random_channel
from pretrain.data.manifest import Clip, Samples
from pretrain.encoder.framing import HOP, RECEPTIVE_FIELD, SAMPLE_RATE, num_frames

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
# (waveforms, their frame counts, a random generator each, training or not) -> (waveforms, masks)
Prepare = Callable[[list[Samples], list[int], list[np.random.Generator], bool], tuple[list[Samples], list[Mask]]]


class LabelSet(Protocol):
    """Frame labels by clip key, as in `pretrain.labels`; a frame with -1 has no label."""

    @property
    def clusters(self) -> int:
        """Number of clusters: labels are below it."""

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the labels."""

    def __contains__(self, key: str, /) -> bool:
        """Return whether a clip has labels."""

    def __getitem__(self, key: str, /) -> Integers:
        """Return a clip's labels (frames,)."""


@dataclass(frozen=True)
class Batch:
    """A batch of clips, padded at the end.

    Attributes:
        wav: (batch, samples).
        lengths: samples of each clip (batch,).
        counts: frames of each clip (batch,).
        mask: True where the encoder's input is masked (batch, frames).
        labels: of each label set (sets, batch, frames); -1 for padding and unlabelled frames.
        tokens: of the transcripts (batch, tokens).
        token_counts: tokens of each clip (batch,); 0 without a transcript.
    """

    wav: Tensor
    lengths: Tensor
    counts: Tensor
    mask: Tensor
    labels: Tensor
    tokens: Tensor
    token_counts: Tensor

    def to(self, device: torch.device) -> Self:
        """Return a copy on a device."""
        parts = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return type(self)(**parts)

    @property
    def seconds(self) -> float:
        """Duration of the audio, without padding."""
        return float(self.lengths.sum()) / SAMPLE_RATE


class Collator:
    """Collates clips to a batch.

    Args:
        labels: the label sets.
        prepare: masks and mixes waveforms, by the objective's settings.
        longest: maximum duration of a crop, in seconds.
        tokenize: returns a clip's tokens; None without a usable transcript.
        speeds: range of random speed perturbation, as factors.
        channel: probability of a random channel response, see `pretrain.data.channel`.
        training: augment, and crop at random; otherwise crop at the start.
    """

    def __init__(
        self,
        labels: Sequence[LabelSet],
        prepare: Prepare,
        *,
        longest: float,
        tokenize: Callable[[Clip], list[int] | None] | None = None,
        speeds: tuple[float, float] = (1.0, 1.0),
        channel: float = 0.0,
        training: bool = True,
    ) -> None:
        self.labels, self.prepare, self.tokenize, self.training = labels, prepare, tokenize, training
        self.speeds, self.channel = (speeds, channel) if training else ((1.0, 1.0), 0.0)
        self.longest = round(longest * SAMPLE_RATE)

    def __call__(self, clips: Sequence[tuple[Clip, Samples]], generators: list[np.random.Generator]) -> Batch:
        """Collate clips, each with its random generator."""
        crops = [self._crop(clip, wav, rng) for (clip, wav), rng in zip(clips, generators, strict=True)]
        counts = [crop.frames for crop in crops]
        wavs, masks = self.prepare([crop.wav for crop in crops], counts, generators, self.training)
        tokens = [torch.tensor(crop.tokens, dtype=torch.long) for crop in crops]
        return Batch(
            wav=pad_sequence([torch.from_numpy(wav) for wav in wavs], batch_first=True),
            lengths=torch.tensor([len(wav) for wav in wavs]),
            counts=torch.tensor(counts),
            mask=pad_sequence([torch.from_numpy(mask) for mask in masks], batch_first=True),
            labels=self._pad([crop.labels for crop in crops], max(counts)),
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
        elif self.tokenize and clip.text:  # the transcript of a crop is unknown
            tokens = self.tokenize(clip)
        frames = num_frames(len(wav))
        labels = [of[clip.key][first : first + frames] for of in self.labels]
        if any(len(row) < frames for row in labels):
            raise ValueError(f"the labels of {clip.key} are shorter than its audio; make them again.")
        if speed != 1.0:
            wav, labels = change_speed(wav, labels, speed)
            frames = len(labels[0])
        if self.channel and rng.random() < self.channel:
            wav = random_channel(wav, rng)
        return _Crop(wav, frames, labels, tokens or [])

    def _pad(self, labels: list[list[Integers]], longest: int) -> Tensor:
        """Pad labels with -1: (sets, batch, frames)."""
        padded = np.full((len(self.labels), len(labels), longest), -1)
        for row, sets in enumerate(labels):
            for of, values in enumerate(sets):
                padded[of, row, : len(values)] = values
        return torch.from_numpy(padded)


def change_speed(wav: Samples, labels: Sequence[Integers], speed: float) -> tuple[Samples, list[Integers]]:
    """Speed up a waveform (samples,) by resampling, which also raises pitch and formants, with its labels (frames,).

    A frame takes the label of the original frame at its centre.
    """
    resampled = soxr.resample(wav, speed * SAMPLE_RATE, SAMPLE_RATE, quality="LQ")
    centres = np.arange(max(num_frames(len(resampled)), 1)) * HOP + RECEPTIVE_FIELD / 2
    original = ((centres * speed - RECEPTIVE_FIELD / 2) / HOP).round().astype(np.int64)
    return resampled, [row[original.clip(0, len(row) - 1)] for row in labels]


class _Crop(NamedTuple):
    wav: Samples
    frames: int
    labels: list[Integers]
    tokens: list[int]
