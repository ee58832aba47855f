"""HuBERT: guess the cluster of every hidden frame (Hsu et al. 2021, 2106.07447).

Spans of frames are hidden, and the encoder must tell from the rest which cluster of MFCC, or of an earlier encoder's
layer, each was in. Loss: cross-entropy over the hidden frames alone, of cosines / 0.1 to a learned vector per cluster,
and a penalty on loud front-end features. Here clips of a batch differ in length, so each hides its own share of itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.data.batch import Batch, Mask
from pretrain.data.manifest import Samples
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.frontend import valid_frames
from pretrain.objectives.masking import span_mask
from pretrain.objectives.protocol import Objective, Outcome, Settings


@dataclass(frozen=True)
class HubertSettings(Settings):
    """How HuBERT learns.

    Attributes:
        mask_probability: spans times their length, as a share of the frames; spans overlap, so .8 hides about 57 %.
        mask_length: frames in a span.
        head_dim: in which frames and clusters are compared; 256 in Base, 768 in Large.
        temperature: that cosines are divided by.
        masked_weight: of the loss on hidden frames.
        seen_weight: of the same loss on the others: 0 as published, above it little speech teaches more.
        feature_weight: of the mean square of the front end's features.
        feature_grad: what the front end's gradients are multiplied by; .1 in Base, 1 in Large.
        layer: whose frames guess; the last if None.
    """

    mask_probability: float = 0.8
    mask_length: int = 10
    head_dim: int = 256
    temperature: float = 0.1
    masked_weight: float = 1.0
    seen_weight: float = 0.0
    feature_weight: float = 10.0
    feature_grad: float = 1.0
    layer: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.mask_probability <= 1 or self.mask_length < 1:
            raise ValueError(
                f"mask_probability is {self.mask_probability} and mask_length {self.mask_length}; "
                "possible are 0 to 1, and 1 or more."
            )
        if self.head_dim < 1 or self.temperature <= 0:
            raise ValueError(f"head_dim is {self.head_dim} and temperature {self.temperature}; both must be above 0.")

    def prepare(
        self, wavs: list[Samples], counts: list[int], generators: list[np.random.Generator], training: bool
    ) -> tuple[list[Samples], list[Mask]]:
        """Hide spans of each clip."""
        if not self.mask_probability:
            return wavs, [np.zeros(count, bool) for count in counts]
        masks = [
            span_mask(count, generator, probability=self.mask_probability, length=self.mask_length)
            for count, generator in zip(counts, generators, strict=True)
        ]
        return wavs, masks


def cosine_logits(frames: Tensor, clusters: Tensor, temperature: float) -> Tensor:
    """Compare frames (some, dim) with vectors of clusters (clusters, dim): (some, clusters) in float32."""
    with torch.autocast(frames.device.type, enabled=False):
        return F.normalize(frames.float(), dim=-1) @ F.normalize(clusters.float(), dim=-1).T / temperature


def reached(frames: Tensor, share: float) -> Tensor:
    """Give frames as they are, whose gradients come multiplied by `share`."""
    return frames if share == 1 else share * frames + (1 - share) * frames.detach()


class Hubert(Objective):
    """HuBERT's head and losses.

    Args:
        settings: how.
        dim: of the encoder's frames.
        clusters: in each label set.
        shares: what the encoder's gradients from each set are multiplied by: below 0 it learns to hide what the head
            learns to find (Ganin and Lempitsky, 2015); 1 if empty.
    """

    def __init__(
        self, settings: HubertSettings, dim: int, clusters: Sequence[int], shares: Sequence[float] = ()
    ) -> None:
        super().__init__()
        self.settings, self.shares = settings, tuple(shares) or (1.0,) * len(clusters)
        self.weights = {
            "masked": settings.masked_weight,
            "seen": settings.seen_weight,
            "features": settings.feature_weight,
        }
        self.project = nn.ModuleList(nn.Linear(dim, settings.head_dim) for _ in clusters)
        self.clusters = nn.ParameterList(nn.Parameter(torch.empty(n, settings.head_dim).uniform_()) for n in clusters)

    def counts(self, batch: Batch) -> dict[str, int]:
        """Count hidden frames, the others, and all."""
        masked, frames = int(batch.mask.sum()), int(batch.counts.sum())
        return {"masked": masked, "seen": frames - masked, "features": frames}

    def forward(self, encoder: SpeechEncoder, batch: Batch) -> Outcome:
        """Guess the hidden frames' labels."""
        settings = self.settings
        features = encoder.features(batch.wav, batch.lengths)
        if settings.feature_grad != 1.0 and features.requires_grad:
            features.register_hook(lambda grad: grad * settings.feature_grad)
        real = valid_frames(batch.counts, features.shape[1])
        penalty = (features.float().square().mean(-1) * real).sum()
        layers = encoder.encode(features, batch.counts, batch.mask if settings.mask_probability else None)
        if encoder.config.pre_norm:
            layers = [*layers[:-1], encoder.transformer.norm(layers[-1])]
        frames = layers[-1 if settings.layer is None else settings.layer]
        loss, tallies = self._guess(frames, batch.mask, batch.labels, "masked")
        seen = loss.new_zeros(())
        if settings.seen_weight or not self.training:
            seen, more = self._guess(frames, real & ~batch.mask, batch.labels, "seen")
            tallies |= more
        return Outcome({"masked": loss, "seen": seen, "features": penalty}, tallies, layers)

    def _guess(self, frames: Tensor, where: Tensor, labels: Tensor, name: str) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = frames[where]
        total, tallies = frames.new_zeros((), dtype=torch.float32), {}
        for of, (project, clusters) in enumerate(zip(self.project, self.clusters, strict=True)):
            known = labels[of][where] >= 0
            wanted = labels[of][where][known]
            told = reached(chosen[known], self.shares[of])
            logits = cosine_logits(project(told), clusters, self.settings.temperature)
            total = total + F.cross_entropy(logits, wanted, reduction="sum")
            guessed = logits.detach().argmax(-1)
            tallies[f"{name} {of}"] = torch.stack([(guessed == wanted).sum(), wanted.new_tensor(len(wanted))])
            if not self.training and name == "masked":
                tallies[f"wanted {of}"] = torch.bincount(wanted, minlength=len(clusters))
                tallies[f"guessed {of}"] = torch.bincount(guessed, minlength=len(clusters))
        return total, tallies

    def figures(self, tallies: Mapping[str, Tensor]) -> dict[str, float]:
        """Give accuracies, the perplexity of labels and guesses, and how many clusters are never guessed."""
        made: dict[str, float] = {}
        for of in range(len(self.clusters)):
            mark = f"_{of}" if len(self.clusters) > 1 else ""
            for name, figure in (("masked", "accuracy"), ("seen", "seen_accuracy")):
                if f"{name} {of}" in tallies:
                    right, count = tallies[f"{name} {of}"].tolist()
                    made[figure + mark] = right / max(count, 1)
            if f"wanted {of}" in tallies:
                wanted, guessed = tallies[f"wanted {of}"], tallies[f"guessed {of}"]
                made["label_perplexity" + mark] = perplexity(wanted)
                made["guess_perplexity" + mark] = perplexity(guessed)
                made["dead" + mark] = float(((guessed == 0) & (wanted > 0)).sum())
        return made


def perplexity(counts: Tensor) -> float:
    """Give how many equally used clusters would be as hard to foretell as these counts (clusters,)."""
    share = counts.double() / counts.sum().clamp(min=1)
    return float(torch.special.entr(share).sum().exp())
