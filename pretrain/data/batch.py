"""Collation: clips are cropped, augmented, masked and padded to a batch.

clip    |-----------------------------------------|
crop         |==========================|              starts at a frame boundary, so that
labels       |0|1|2|3| ...           |T-1|             label t belongs to frame t

With two views, every clip is in the batch twice: the second half of the rows are parallel clips in other voices, where
there are any, or the same clips, cropped alike and augmented independently.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol, Self

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


class Prepared(NamedTuple):
    """What an objective makes of the waveforms of a batch.

    Attributes:
        wavs: the encoder's input (samples,).
        masks: where it is masked (frames,).
        extra: further arrays of each clip, by name, with the frames as first axis; see `Batch.extra`.
    """

    wavs: list[Samples]
    masks: list[Mask]
    extra: dict[str, list[npt.NDArray[Any]]] = {}  # noqa: RUF012  # nobody writes to it


# (waveforms, their frame counts, a random generator each, training or not)
Prepare = Callable[[list[Samples], list[int], list[np.random.Generator], bool], Prepared]


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
        extra: further tensors (batch, frames, ...) that the objective has prepared, padded with 0; and with two views
            `partners`, the frame of the other view (row plus or minus half of the batch) at the same moment of the
            speech (batch, frames), -1 for padding and where there is none.
    """

    wav: Tensor
    lengths: Tensor
    counts: Tensor
    mask: Tensor
    labels: Tensor
    tokens: Tensor
    token_counts: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Self:
        """Return a copy on a device."""
        names = [of.name for of in fields(self) if of.name != "extra"]
        parts = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        extra = {name: part.to(device, non_blocking=True) for name, part in self.extra.items()}
        return type(self)(**parts, extra=extra)

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
        two_views: have every clip in the batch twice.
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
        two_views: bool = False,
        training: bool = True,
    ) -> None:
        self.labels, self.prepare, self.tokenize, self.training = labels, prepare, tokenize, training
        self.speeds, self.channel = (speeds, channel) if training else ((1.0, 1.0), 0.0)
        self.longest, self.two_views = round(longest * SAMPLE_RATE), two_views

    def __call__(
        self,
        clips: Sequence[tuple[Clip, Samples]],
        generators: list[np.random.Generator],
        parallel: Sequence[tuple[Clip, Samples]] = (),
    ) -> Batch:
        """Collate clips, each with its random generator.

        Args:
            clips: and their waveforms (samples,).
            generators: one for each clip.
            parallel: with two views, the clip for the second view of each: a parallel one, or itself.
        """
        by_view = (clips, parallel or clips) if self.two_views else (clips,)
        cropped = [self._crops(rng, *views) for rng, *views in zip(generators, *by_view, strict=True)]
        crops = [crop for view in zip(*cropped, strict=True) for crop in view]
        if self.two_views:
            generators = [*generators, *(rng.spawn(1)[0] for rng in generators)]
        counts = [crop.frames for crop in crops]
        wavs, masks, arrays = self.prepare([crop.wav for crop in crops], counts, generators, self.training)
        extra = {name: pad_sequence(list(map(torch.from_numpy, of)), True) for name, of in arrays.items()}
        tokens = [torch.tensor(crop.tokens, dtype=torch.long) for crop in crops]
        return Batch(
            wav=pad_sequence([torch.from_numpy(wav) for wav in wavs], batch_first=True),
            lengths=torch.tensor([len(wav) for wav in wavs]),
            counts=torch.tensor(counts),
            mask=pad_sequence([torch.from_numpy(mask) for mask in masks], batch_first=True),
            labels=self._pad([crop.labels for crop in crops], max(counts)),
            tokens=pad_sequence(tokens, batch_first=True),
            token_counts=torch.tensor([len(row) for row in tokens]),
            extra=extra | ({"partners": self._partners(cropped)} if self.two_views else {}),
        )

    def _crops(self, rng: np.random.Generator, *clips: tuple[Clip, Samples]) -> "list[_Crop]":
        """Crop parallel clips at the same place, and augment each."""
        slowest, fastest = self.speeds
        fixed = slowest == fastest == 1.0
        speeds = [1.0 if fixed else math.exp(rng.uniform(math.log(slowest), math.log(fastest))) for _ in clips]
        samples, longest, first = min(len(wav) for _, wav in clips), int(self.longest * min(speeds)), 0
        whole = samples <= longest
        if not whole:
            first = int(rng.integers((samples - longest) // HOP + 1)) if self.training else 0
            samples = longest
        span = slice(first * HOP, first * HOP + samples)
        return [
            self._augmented(clip, wav[span], first, speed, rng, whole)
            for (clip, wav), speed in zip(clips, speeds, strict=True)
        ]

    def _augmented(
        self, clip: Clip, wav: Samples, first: int, speed: float, rng: np.random.Generator, whole: bool
    ) -> "_Crop":
        # the transcript of a crop is unknown
        tokens = self.tokenize(clip) if whole and self.tokenize and clip.text else None
        frames = num_frames(len(wav))
        labels = [of[clip.key][first : first + frames] for of in self.labels]
        if any(len(row) < frames for row in labels):
            raise ValueError(f"the labels of {clip.key} are shorter than its audio; make them again.")
        if speed != 1.0:
            wav, labels = change_speed(wav, labels, speed)
            frames = max(num_frames(len(wav)), 1)
        if self.channel and rng.random() < self.channel:
            wav = random_channel(wav, rng)
        return _Crop(clip.key, wav, frames, labels, tokens or [], speed)

    def _partners(self, views: "list[list[_Crop]]") -> Tensor:
        """Return the partners of two views; without augmentation, a clip is no partner of itself."""
        frames = max(crop.frames for pair in views for crop in pair)
        partners = np.full((2 * len(views), frames), -1)
        for row, (first, second) in enumerate(views):
            if self.training or first.key != second.key:
                partners[row, : first.frames] = time_map(first, second)
                partners[row + len(views), : second.frames] = time_map(second, first)
        return torch.from_numpy(partners)

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
    original = _frames_at(max(num_frames(len(resampled)), 1), speed)
    return resampled, [row[original.clip(0, len(row) - 1)] for row in labels]


def time_map(crop: "_Crop", other: "_Crop") -> Integers:
    """Return the frame of another view at the centre of each of a view's frames (frames,); -1 where it has none."""
    frames = _frames_at(crop.frames, crop.speed / other.speed)
    return np.where((frames >= 0) & (frames < other.frames), frames, -1)


def _frames_at(frames: int, speed: float) -> Integers:
    """Return which frames of audio are at the centres of `frames` frames of the same audio, `speed` times as fast."""
    centres = np.arange(frames) * HOP + RECEPTIVE_FIELD / 2
    return ((centres * speed - RECEPTIVE_FIELD / 2) / HOP).round().astype(np.int64)


class _Crop(NamedTuple):
    key: str
    wav: Samples
    frames: int
    labels: list[Integers]
    tokens: list[int]
    speed: float
