"""DinoSR and SpidR: masked prediction of the clusters of a teacher's frames, which are found on the way.

Liu et al., 2023, "DinoSR", arXiv 2305.10005. The teacher, a moving average of the student, sees the whole clip. Each of
its top blocks has a codebook; the label of a masked frame is the nearest code to the block's feed-forward output,
normalised over the clip. Codes follow the frames that they are nearest to, as a moving average of those.

    front end --> mask --> student --> last layer --> a softmax for each codebook
        `----------------> teacher --> top blocks --> nearest codes = labels

Poli et al., 2025, "SpidR", arXiv 2512.20308: there each block of the student predicts the labels of the same block of
the teacher, from its own feed-forward output, and the teacher slows down exponentially.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.data.batch import Batch
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.frontend import valid_frames
from pretrain.objectives.masking import MaskSettings
from pretrain.objectives.protocol import Objective, ObjectiveOutput
from pretrain.objectives.teacher import Teacher, annealed, normalised_over_time

STEP_ASIDE = 0.1  # standard deviation; that of the frames is 1
FROZEN = 1e-7  # of a student's weights: so small a share no longer counts


@dataclass(frozen=True, kw_only=True)
class DinoSrSettings(MaskSettings):
    """DinoSR's settings.

    Attributes:
        codes: in each codebook.
        top_blocks: that have a codebook; all if there are fewer.
        code_decay: of the moving average of the codes.
        idle_steps: after which a code without frames moves next to one with many; 0 for never, as published, where
            training is long enough for codes to find frames.
        decay: of the teacher's: at the start, and at the end.
        decay_steps: in which it rises, linearly.
        freeze_step: after which the teacher stays as it is.
    """

    codes: int = 256
    top_blocks: int = 8
    code_decay: float = 0.9
    idle_steps: int = 0
    decay: tuple[float, float] = (0.999, 0.9999)
    decay_steps: int = 30_000
    freeze_step: int = 200_000
    needs_labels: ClassVar[bool] = False
    layerwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        decays = (self.code_decay, *self.decay)
        if not all(0 <= decay <= 1 for decay in decays) or self.top_blocks < 1 or self.codes < 2:
            raise ValueError(
                f"code_decay is {self.code_decay}, decay {self.decay}, top_blocks {self.top_blocks} and codes "
                f"{self.codes}; possible are 0 to 1 for decays, 1 or more, and 2 or more."
            )

    def decay_at(self, step: int) -> float:
        """Return the share of the teacher's weights that is kept after a step."""
        return 1.0 if step >= self.freeze_step else annealed(*self.decay, step, self.decay_steps)


@dataclass(frozen=True, kw_only=True)
class SpidrSettings(DinoSrSettings):
    """SpidR's settings: DinoSR's, of which `decay` has no end here.

    Attributes:
        decay_steps: in which the student's share falls to 1 / e.
    """

    decay_steps: int = 20_000
    layerwise: ClassVar[bool] = True
    needs: ClassVar[Mapping[str, Sequence[object]]] = {"layer_drop": (0.0,)}

    def decay_at(self, step: int) -> float:
        """Return the share of the teacher's weights that is kept after a step."""
        share = (1 - self.decay[0]) * math.exp(-step / self.decay_steps)
        return 1 - share if share > FROZEN else 1.0


class DinoSr(Objective):
    """The teacher, codebooks and softmax layers of DinoSR and SpidR; see `Objective` for the arguments."""

    settings: DinoSrSettings

    def add_heads(self, encoder: SpeechEncoder) -> None:
        """Create the loss weights, and the modules that are trained beside the encoder."""
        self.weights = {"masked": 1.0}
        self.teacher = Teacher(encoder.transformer)
        dim, blocks = encoder.config.dim, min(self.settings.top_blocks, encoder.config.depth)
        self.predict = nn.ModuleList(nn.Linear(dim, self.settings.codes) for _ in range(blocks))
        self.codebooks = OnlineCodebooks(blocks, self.settings.codes, dim)

    def counts(self, batch: Batch) -> dict[str, int]:
        """Count masked frames."""
        return {"masked": int(batch.mask.sum())}

    def forward(self, encoder: SpeechEncoder, batch: Batch, progress: float = 0.0) -> ObjectiveOutput:
        """Predict the labels of the teacher's blocks where the student's input is masked."""
        x = encoder.embed(encoder.features(batch.wav, batch.lengths))
        targets = self.targets(x.detach(), batch.counts, batch.mask)
        labels = self.codebooks(targets)
        inner: list[Tensor] = []
        layers = encoder.contextualise(encoder.masked(x, batch.mask), batch.counts, inner=inner)
        layers = encoder.normalise_last(layers)
        blocks = len(self.predict)
        inputs = inner[-blocks:] if self.settings.layerwise else [layers[-1]] * blocks
        logits = torch.stack(
            [predict(of[batch.mask]) for predict, of in zip(self.predict, inputs, strict=True)], 1
        ).float()
        loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="sum") / blocks
        predicted = logits.detach().argmax(-1)
        right = (predicted == labels).sum()
        stats = {
            "right": torch.stack([right, right.new_tensor(labels.numel())]),
            "predicted": F.one_hot(predicted, self.settings.codes).sum(0),
            **self.codebooks.sums(targets, labels),
        }
        return ObjectiveOutput({"masked": loss}, stats, layers)

    @torch.no_grad()
    def targets(self, x: Tensor, counts: Tensor, mask: Tensor) -> Tensor:
        """Return the teacher's masked frames (masked, blocks, dim), float32, for the unmasked input of its blocks."""
        real = valid_frames(counts, x.shape[1])
        inner: list[Tensor] = []
        self.teacher.network(x, None if bool(real.all()) else real, len(self.teacher.network.blocks), inner=inner)
        chosen = inner[-len(self.predict) :]
        return torch.stack([normalised_over_time(frames.float(), real)[mask] for frames in chosen], 1)

    def after_step(self, encoder: SpeechEncoder, step: int, progress: float, stats: Mapping[str, Tensor]) -> None:
        """Let the teacher follow the student, and the codes their frames."""
        self.teacher.follow(encoder.transformer, decay := self.settings.decay_at(step))
        mine, theirs = self.teacher.network.position, encoder.transformer.position
        if mine is not None and theirs is not None and decay < 1:  # positions are the student's own, as published
            mine.load_state_dict(theirs.state_dict())
        self.codebooks.follow(stats["code frames"], stats["code counts"], self.settings.code_decay)
        if self.settings.idle_steps:
            self.codebooks.move_idle(stats["code counts"], self.settings.idle_steps, step)

    def metrics(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the accuracy, and the effective number of codes in a codebook: of labels and of predictions."""
        right, count = stats["right"].tolist()
        metrics = {"accuracy": right / max(count, 1)}
        for name, counts in (("label", stats["code counts"]), ("guess", stats["predicted"])):
            shares = counts.double() / counts.sum(-1, keepdim=True).clamp(min=1)
            metrics[f"{name}_perplexity"] = float(torch.special.entr(shares).sum(-1).exp().mean())
        return metrics


class OnlineCodebooks(nn.Module):
    """Codebooks that are moving averages of the frames nearest to each code.

    Args:
        books: their number.
        codes: in each.
        dim: of the frames.
    """

    frames: Tensor
    counts: Tensor
    idle: Tensor

    def __init__(self, books: int, codes: int, dim: int) -> None:
        super().__init__()
        start = torch.randn(books, codes, dim)
        self.register_buffer("frames", (start - start.mean(1, keepdim=True)) / start.std(1, correction=0, keepdim=True))
        self.register_buffer("counts", torch.ones(books, codes))
        self.register_buffer("idle", torch.zeros(books, codes))

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """Return the nearest code of each book (frames, books) for frames (frames, books, dim)."""
        codes = self.frames / self.counts[:, :, None]
        products = torch.einsum("fbd,bcd->fbc", frames, codes)
        return (products - codes.square().sum(-1) / 2).argmax(-1)

    @torch.no_grad()
    def sums(self, frames: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the sum of each code's frames (books, codes, dim), and their number (books, codes)."""
        chosen = F.one_hot(labels, self.counts.shape[1]).to(frames.dtype)
        return {"code frames": torch.einsum("fbc,fbd->bcd", chosen, frames), "code counts": chosen.sum(0)}

    @torch.no_grad()
    def follow(self, frames: Tensor, counts: Tensor, decay: float) -> None:
        """Move the codes towards the means of their frames; one without frames stays where it is."""
        weight = torch.where(counts > 0, 1 - decay, 0.0)
        self.counts.lerp_(counts, weight)
        self.frames.lerp_(frames, weight[:, :, None])

    @torch.no_grad()
    def move_idle(self, counts: Tensor, limit: int, seed: int) -> None:
        """Move each code that had no frames for `limit` steps next to one of those with the most.

        Args:
            counts: of the step's frames (books, codes).
            limit: a number of steps.
            seed: of the distance to the other code, the same in all processes.
        """
        self.idle = torch.where(counts > 0, 0.0, self.idle + 1)
        noise = torch.randn(self.frames.shape, generator=torch.Generator().manual_seed(seed)).to(self.frames)
        for book, idle in enumerate(self.idle >= limit):
            crowded = counts[book].argsort(descending=True)[: min(int(idle.sum()), int((counts[book] > 0).sum()))]
            moved = idle.nonzero().flatten()[: len(crowded)]
            codes = self.frames[book, crowded] / self.counts[book, crowded, None]
            self.frames[book, moved] = codes + STEP_ASIDE * noise[book, moved]
            self.counts[book, moved] = 1.0
            self.idle[book, moved] = 0.0
