"""Linear probes: phone and speaker information in the layers of a frozen encoder.

Good frames for matching separate phones and are independent of the speaker. Both are measured by the test accuracy of a
linear classifier (Alain and Bengio, 2016, arXiv 1610.01644), the same way for every layer and for log-mel and MFCC
frames as baselines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pretrain.probing.probe_features import ProbeFeatures

SILENCE = 0  # its phone id
MAX_FRAMES = 200_000  # to train a probe on
UPDATES = 30  # of L-BFGS, enough to converge
PENALTY = 1e-4  # L2, on the weights of standardised frames
RIDGE = 1e-3  # added to variances before whitening


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """The settings of `ssl-vc probe`.

    Attributes:
        encoder: a name, a folder or a hub id.
        clips: see `pretrain.data.manifest.read_manifest`.
        train_split: of the clips to train probes on.
        test_split: of the clips to test them on, by other speakers.
        phones: folder of alignments, with a subfolder for each split; missing ones are created.
        layers: to probe; all if empty.
        train_minutes: amount of `train_split` to use.
        test_minutes: amount of `test_split` to use.
        device: auto, cpu, cuda, cuda:1 ... or mps.
        parallel: a table of parallel clips in several voices, by `ssl-vc make-parallel`, to measure how often the
            nearest frame is the true one; none if empty.
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
    parallel: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.clips:
            raise ValueError("there are no clips to probe on; set `clips` to a manifest.")
        for name in ("train_minutes", "test_minutes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give more than 0.")
        if self.train_split == self.test_split:
            raise ValueError(f"train_split and test_split are both {self.test_split!r}; they must differ.")


class LinearProbe:
    """Softmax regression on frames.

    Frames are standardised, and the weights are optimised in a whitened basis, where L-BFGS converges equally fast for
    all features; the penalty is on the unwhitened weights.

    Args:
        frames: (frames, dim).
        labels: (frames,), from 0.
        classes: number of labels.
        seed: of the choice of frames if there are more than `MAX_FRAMES`.
    """

    def __init__(self, frames: Tensor, labels: Tensor, classes: int, *, seed: int = 0) -> None:
        if len(frames) > MAX_FRAMES:
            chosen = torch.randperm(len(frames), generator=torch.Generator().manual_seed(seed))[:MAX_FRAMES]
            frames, labels = frames[chosen.to(frames.device)], labels[chosen.to(labels.device)]
        self.mean, self.deviation = frames.mean(0), frames.std(0, correction=0).clamp(min=1e-5)
        inputs = (frames - self.mean) / self.deviation
        variance, directions = torch.linalg.eigh((inputs.T @ inputs / len(inputs)).cpu())
        whitening = (directions / (variance.clamp(min=0) + RIDGE).sqrt()).to(frames)
        inputs = inputs @ whitening
        weights = frames.new_zeros(len(whitening), classes, requires_grad=True)
        bias = frames.new_zeros(classes, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights, bias], max_iter=UPDATES, history_size=20, line_search_fn="strong_wolfe")

        def loss() -> float:
            with torch.enable_grad():
                optimizer.zero_grad()
                error = torch.nn.functional.cross_entropy(torch.addmm(bias, inputs, weights), labels)
                total = error + PENALTY * (whitening @ weights).square().sum()
                total.backward()
            return float(total.detach())

        optimizer.step(loss)
        self.weights, self.bias = (whitening @ weights).detach(), bias.detach()

    def __call__(self, frames: Tensor) -> Tensor:
        """Return the most likely label of each frame (frames,)."""
        return torch.addmm(self.bias, (frames - self.mean) / self.deviation, self.weights).argmax(1)


class PhoneAccuracy(NamedTuple):
    """Accuracy of a phone probe over all frames, and over those that are not silence."""

    all_frames: float
    speech: float


def phone_accuracy(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], symbols: int, *, seed: int = 0
) -> PhoneAccuracy:
    """Train a phone probe and return its test accuracy.

    Args:
        train: frames (frames, dim) and phones (frames,).
        test: the same, of other speakers.
        symbols: number of phones, including `SILENCE`.
        seed: see `LinearProbe`.
    """
    correct = LinearProbe(*train, symbols, seed=seed)(test[0]) == test[1]
    return PhoneAccuracy(_mean(correct), _mean(correct[test[1] != SILENCE]))


class SpeakerAccuracy(NamedTuple):
    """Accuracy of a speaker probe on the means of clips, and on single frames."""

    clips: float
    frames: float


def speaker_accuracy(
    frames: Tensor, counts: Sequence[int], speakers: Tensor, *, seed: int = 0
) -> SpeakerAccuracy | None:
    """Return the accuracy of speaker probes by two-fold cross-validation over each speaker's clips.

    Args:
        frames: of all clips (frames, dim).
        counts: frames of each clip.
        speakers: of each clip (clips,); those with a single clip are excluded.
        seed: of the folds.

    Returns:
        The accuracies; None without two speakers of two clips each.
    """
    eligible = speakers.bincount()[speakers] > 1
    included = eligible.repeat_interleave(torch.tensor(counts))
    names, label = speakers[eligible].unique(return_inverse=True)
    if len(names) < 2:
        return None
    lengths = torch.tensor(counts)[eligible]
    first = _first_fold(label, seed)
    frames = frames[included.to(frames.device)]
    means = torch.stack([part.mean(0) for part in frames.split(lengths.tolist())])
    return SpeakerAccuracy(
        _cross_validate(means, label, first, seed),
        _cross_validate(frames, label.repeat_interleave(lengths), first.repeat_interleave(lengths), seed),
    )


def chance_levels(test: ProbeFeatures) -> dict[str, float]:
    """Return the share of silence, and the accuracy of always predicting the most frequent phone or speaker."""
    speech = test.phones[test.phones != SILENCE]
    return {
        "silence": 1 - len(speech) / len(test.phones),
        "phones": float(speech.bincount().max()) / len(speech) if len(speech) else 0.0,
        "speakers": float(test.speakers.bincount().max() / len(test.clips)),
    }


def _mean(correct: Tensor) -> float:
    return float(correct.double().mean()) if len(correct) else 0.0


def _first_fold(speakers: Tensor, seed: int) -> Tensor:
    """Assign half of each speaker's clips, at random, to the first fold (clips,)."""
    first = torch.zeros(len(speakers), dtype=torch.bool)
    order = torch.randperm(len(speakers), generator=torch.Generator().manual_seed(seed))
    for speaker in speakers.unique():
        first[order[speakers[order] == speaker][::2]] = True
    return first


def _cross_validate(frames: Tensor, labels: Tensor, first: Tensor, seed: int) -> float:
    """Return the accuracy over both folds, each tested by a probe trained on the other."""
    labels, first = labels.to(frames.device), first.to(frames.device)
    classes = int(labels.max()) + 1
    correct = [
        LinearProbe(frames[fold], labels[fold], classes, seed=seed)(frames[~fold]) == labels[~fold]
        for fold in (first, ~first)
    ]
    return _mean(torch.cat(correct))
