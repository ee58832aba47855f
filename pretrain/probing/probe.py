"""Probes: what the layers of a frozen encoder know of phones and of speakers.

Frames are as good for matching as they tell phones apart and forget who speaks. Both are asked in the simplest way
(Alain and Bengio, 2016, arXiv 1610.01644): how far a linear classifier comes that is trained on some frames and tested
on others. Every layer is asked alike, and so are log-mel and cepstral frames, which no training made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pretrain.probing.heard import Heard

SILENCE = 0  # the number of the symbol that is no phone
MOST_FRAMES = 200_000  # that a probe is trained on
UPDATES = 30  # enough to converge, and the same for all
PENALTY = 1e-4  # on the square of weights of standardised frames
RIDGE = 1e-3  # variance of a direction below which it is not blown up


@dataclass(frozen=True)
class ProbeConfig:
    """What is probed, and on what.

    Attributes:
        encoder: a name, a folder or a hub id.
        clips: see `pretrain.data.manifest.read_manifest`.
        train_split: the clips that probes are trained on.
        test_split: the clips that they are tested on; of other speakers.
        phones: folder of alignments, one folder in it for each split; those that are missing are made.
        layers: which ones; all if empty.
        train_minutes: how much of `train_split` is heard.
        test_minutes: how much of `test_split`.
        device: auto, cpu, cuda, cuda:1 ... or mps.
        seed: of the choice of clips and of the probes.
    """

    encoder: str = "tiny"
    clips: str = ""
    train_split: str = "train"
    test_split: str = "dev"
    phones: str = "runs/phones"
    layers: list[int] = field(default_factory=list)
    train_minutes: float = 30.0
    test_minutes: float = 20.0
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.clips:
            raise ValueError("there is nothing to probe on; set `clips` to a table of them.")
        for name in ("train_minutes", "test_minutes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give more than 0.")
        if self.train_split == self.test_split:
            raise ValueError(f"train_split and test_split are both {self.test_split!r}; probes are tested on others.")


class LinearProbe:
    """Softmax regression: the best that a linear map makes of some frames.

    Frames are brought to zero mean and unit variance. The weights are looked for in directions of equal variance, where
    L-BFGS comes as far in the same number of updates whatever the frames are; the penalty is on the weights themselves.

    Args:
        frames: (frames, dim).
        labels: (frames,), from 0 on.
        classes: how many labels there are.
        seed: of the choice of frames where there are more than `MOST_FRAMES`.
    """

    def __init__(self, frames: Tensor, labels: Tensor, classes: int, *, seed: int = 0) -> None:
        if len(frames) > MOST_FRAMES:
            chosen = torch.randperm(len(frames), generator=torch.Generator().manual_seed(seed))[:MOST_FRAMES]
            frames, labels = frames[chosen.to(frames.device)], labels[chosen.to(labels.device)]
        self.mean, self.deviation = frames.mean(0), frames.std(0, correction=0).clamp(min=1e-5)
        inputs = (frames - self.mean) / self.deviation
        variance, directions = torch.linalg.eigh((inputs.T @ inputs / len(inputs)).cpu())
        equal = (directions / (variance.clamp(min=0) + RIDGE).sqrt()).to(frames)
        inputs = inputs @ equal
        weights = frames.new_zeros(len(equal), classes, requires_grad=True)
        bias = frames.new_zeros(classes, requires_grad=True)
        search = torch.optim.LBFGS([weights, bias], max_iter=UPDATES, history_size=20, line_search_fn="strong_wolfe")

        def loss() -> float:
            with torch.enable_grad():
                search.zero_grad()
                fit = torch.nn.functional.cross_entropy(torch.addmm(bias, inputs, weights), labels)
                total = fit + PENALTY * (equal @ weights).square().sum()
                total.backward()
            return float(total.detach())

        search.step(loss)
        self.weights, self.bias = (equal @ weights).detach(), bias.detach()

    def __call__(self, frames: Tensor) -> Tensor:
        """Give the likeliest label of each frame (frames,)."""
        return torch.addmm(self.bias, (frames - self.mean) / self.deviation, self.weights).argmax(1)


class PhoneAccuracy(NamedTuple):
    """How often a probe names the phone of a frame: of all frames, and of those that are not silent."""

    every: float
    speech: float


def phone_accuracy(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], symbols: int, *, seed: int = 0
) -> PhoneAccuracy:
    """Train a probe on (frames, phones) and test it on others.

    Args:
        train: (frames, dim) and (frames,).
        test: the same, of other speakers.
        symbols: how many phones there are; `SILENCE` is one of them.
        seed: see `LinearProbe`.
    """
    right = LinearProbe(*train, symbols, seed=seed)(test[0]) == test[1]
    return PhoneAccuracy(_share(right), _share(right[test[1] != SILENCE]))


class SpeakerAccuracy(NamedTuple):
    """How often a probe names who speaks: from a whole clip's mean, and from single frames."""

    clips: float
    frames: float


def speaker_accuracy(
    frames: Tensor, counts: Sequence[int], speakers: Tensor, *, seed: int = 0
) -> SpeakerAccuracy | None:
    """Train a probe on half of everybody's clips and test it on the other half, and the other way round.

    Args:
        frames: of all clips (frames, dim).
        counts: how many each clip has.
        speakers: of each clip (clips,); those with a single clip do not count.
        seed: of the halves.

    Returns:
        None where there are not two speakers with two clips.
    """
    several = speakers.bincount()[speakers] > 1
    known = several.repeat_interleave(torch.tensor(counts))
    names, label = speakers[several].unique(return_inverse=True)
    if len(names) < 2:
        return None
    lengths = torch.tensor(counts)[several]
    first = _first_half(label, seed)
    frames = frames[known.to(frames.device)]
    means = torch.stack([part.mean(0) for part in frames.split(lengths.tolist())])
    return SpeakerAccuracy(
        _both_ways(means, label, first, seed),
        _both_ways(frames, label.repeat_interleave(lengths), first.repeat_interleave(lengths), seed),
    )


def chances(test: Heard) -> dict[str, float]:
    """Give the share of silence, and those that guessing names: the commonest phone, the commonest speaker's clips."""
    speech = test.phones[test.phones != SILENCE]
    return {
        "silence": 1 - len(speech) / len(test.phones),
        "phones": float(speech.bincount().max()) / len(speech) if len(speech) else 0.0,
        "speakers": float(test.speakers.bincount().max() / len(test.clips)),
    }


def _share(right: Tensor) -> float:
    return float(right.double().mean()) if len(right) else 0.0


def _first_half(speakers: Tensor, seed: int) -> Tensor:
    """Choose every other clip of each speaker, in random order (clips,)."""
    first = torch.zeros(len(speakers), dtype=torch.bool)
    order = torch.randperm(len(speakers), generator=torch.Generator().manual_seed(seed))
    for speaker in speakers.unique():
        first[order[speakers[order] == speaker][::2]] = True
    return first


def _both_ways(frames: Tensor, labels: Tensor, first: Tensor, seed: int) -> float:
    """Train on the first half (frames,) and test on the other, and the other way round."""
    labels, first = labels.to(frames.device), first.to(frames.device)
    classes = int(labels.max()) + 1
    right = [
        LinearProbe(frames[half], labels[half], classes, seed=seed)(frames[~half]) == labels[~half]
        for half in (first, ~first)
    ]
    return _share(torch.cat(right))
