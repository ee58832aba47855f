"""Frame contrast: contrastive learning of frames from parallel speech.

A frame is drawn to the one at the same moment of the speech in another voice, and away from all others: InfoNCE (van
den Oord et al., 2018, arXiv 1807.03748) between two views of each clip: the same sentence in two voices, or one clip at
two speeds, which moves pitch and formants, and through two channels. So what kNN-VC uses is trained: the nearest
neighbour, by the cosine, of one voice's frames among another's.

    view A   . . . t . . . . .            positive: the frame of view B at t
    view B   - - x + x - - - -            negatives: all frames of view B in the batch, but its neighbours (x)

Both views are queries. HuBERT's heads on labels, if there are any, keep frames of one sound together across sentences.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.data.batch import Batch
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.frontend import valid_frames
from pretrain.objectives.hubert import Hubert
from pretrain.objectives.protocol import ObjectiveOutput
from pretrain.objectives.wavlm import WavlmSettings


@dataclass(frozen=True, kw_only=True)
class FrameContrastSettings(WavlmSettings):
    """Settings of frame contrast, beside those of the masked prediction of labels.

    Attributes:
        contrast_weight: of the contrastive loss.
        contrast_layer: whose frames are contrasted, without a projection; the last if None.
        contrast_temperature: that cosines are divided by.
        neighbours: frames on either side of the positive that are neither positive nor negative.
        same_label: whether frames with the query's first label are negatives too.
        clip_mean: subtract each clip's mean first, as is done before matching with cepstra.
    """

    contrast_weight: float = 1.0
    contrast_layer: int | None = None
    contrast_temperature: float = 0.1
    neighbours: int = 2
    same_label: bool = True
    clip_mean: bool = True
    two_views: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.contrast_temperature <= 0 or self.neighbours < 0:
            raise ValueError(
                f"contrast_temperature is {self.contrast_temperature} and neighbours {self.neighbours}; possible are "
                "above 0, and 0 or more."
            )


class FrameContrast(Hubert):
    """Frame contrast beside HuBERT's heads; see `Hubert` for the arguments."""

    settings: FrameContrastSettings

    def __init__(
        self,
        settings: FrameContrastSettings,
        encoder: SpeechEncoder,
        clusters: Sequence[int] = (),
        gradient_scales: Sequence[float] = (),
    ) -> None:
        super().__init__(settings, encoder, clusters, gradient_scales)
        self.weights = {**self.weights, "contrast": settings.contrast_weight}

    def counts(self, batch: Batch) -> dict[str, int]:
        """Count the frames of each loss; the contrastive one has those with a partner."""
        return {**super().counts(batch), "contrast": int((batch.extra["partners"] >= 0).sum())}

    def forward(self, encoder: SpeechEncoder, batch: Batch, progress: float = 0.0) -> ObjectiveOutput:
        """Predict the labels of masked frames, and tell each frame's partner from all others."""
        losses, stats, layers = super().forward(encoder, batch, progress)
        frames = layers[-1 if self.settings.contrast_layer is None else self.settings.contrast_layer]
        losses["contrast"], stats["contrast"] = self._contrast(frames, batch)
        return ObjectiveOutput(losses, stats, layers)

    def metrics(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Return `Hubert`'s metrics, and how often the nearest frame is the partner or one of its neighbours."""
        metrics = super().metrics(stats)
        if "contrast" in stats:
            nearest, queries = stats["contrast"].tolist()
            metrics["recall"] = nearest / max(queries, 1)
        return metrics

    def _contrast(self, frames: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the summed loss and, in one tensor, how many queries found their partner and how many there are."""
        real = valid_frames(batch.counts, frames.shape[1])
        with torch.autocast(frames.device.type, enabled=False):
            frames = frames.float()
            if self.settings.clip_mean:
                frames = frames - (frames * real[:, :, None]).sum(1, keepdim=True) / batch.counts[:, None, None]
            label = batch.labels[0] if len(batch.labels) else torch.full_like(batch.extra["partners"], -1)
            halves = (part.chunk(2) for part in (F.normalize(frames, dim=-1), real, batch.extra["partners"], label))
            first, second = map(_View._make, zip(*halves, strict=True))
            loss, right = self._find(first, second)
            more, also_right = self._find(second, first)
        return loss + more, torch.stack([right + also_right, (batch.extra["partners"] >= 0).sum()])

    def _find(self, view: "_View", other: "_View") -> tuple[Tensor, Tensor]:
        """Return the summed loss of finding each frame's partner in the other view, and how often it is the nearest."""
        query = (view.partners >= 0).nonzero(as_tuple=True)
        key_row, key_frame = other.real.nonzero(as_tuple=True)
        logits = view.frames[query] @ other.frames[key_row, key_frame].T / self.settings.contrast_temperature
        distance = (key_frame - view.partners[query][:, None]).abs()
        same_clip = key_row == query[0][:, None]
        positive, near = same_clip & (distance == 0), same_clip & (distance <= self.settings.neighbours)
        right = near.gather(1, logits.detach().argmax(1, keepdim=True)).sum()
        neither = near
        if not self.settings.same_label:
            label, key_label = view.labels[query][:, None], other.labels[key_row, key_frame]
            neither = near | ((label == key_label) & (label >= 0))
        logits = logits.masked_fill(neither & ~positive, -math.inf)
        return F.cross_entropy(logits, positive.int().argmax(1), reduction="sum"), right


class _View(NamedTuple):
    """One view of a batch's clips: frames (rows, frames, dim) of length 1; the other fields are (rows, frames)."""

    frames: Tensor
    real: Tensor
    partners: Tensor
    labels: Tensor
