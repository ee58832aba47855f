"""Span masking: the frames that the encoder must predict.

Baevski et al., 2020, "wav2vec 2.0", arXiv 2006.11477, and Hsu et al., 2021, "HuBERT", arXiv 2106.07447: spans of a
fixed length start at random frames and may overlap. Here every clip of a batch keeps its own number of masked frames,
instead of all being reduced to the fewest; and in a clip shorter than two spans, a span is half the clip.

    length 3, starts 1 and 3:   . # # # # # . .     (the last frame is never masked, as published)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.data.batch import Mask, Prepared
from pretrain.data.manifest import Samples
from pretrain.objectives.protocol import Settings


@dataclass(frozen=True, kw_only=True)
class MaskSettings(Settings):
    """Settings of methods that mask spans of frames.

    Attributes:
        mask_probability: spans times their length, as a share of the frames; spans overlap, so .8 masks about 57 %.
        mask_length: frames in a span.
    """

    mask_probability: float = 0.8
    mask_length: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.mask_probability <= 1 or self.mask_length < 1:
            raise ValueError(
                f"mask_probability is {self.mask_probability} and mask_length {self.mask_length}; "
                "possible are 0 to 1, and 1 or more."
            )

    def prepare(
        self, wavs: list[Samples], counts: list[int], generators: list[np.random.Generator], training: bool
    ) -> Prepared:
        """Mask spans of each clip."""
        if not self.mask_probability:
            return super().prepare(wavs, counts, generators, training)
        masks = [
            span_mask(count, generator, probability=self.mask_probability, length=self.mask_length)
            for count, generator in zip(counts, generators, strict=True)
        ]
        return Prepared(wavs, masks)


def span_mask(
    frames: int, rng: np.random.Generator, *, probability: float = 0.8, length: int = 10, min_spans: int = 2
) -> Mask:
    """Draw the mask of a clip (frames,), never of all frames unless there is only one.

    Args:
        frames: of the clip.
        rng: random generator.
        probability: the share that would be masked if spans did not overlap: 0.8 masks 57 %, 0.65 masks 49 %.
        length: of a span, in frames.
        min_spans: minimum number of spans.
    """
    if not 0 <= probability <= 1 or length < 1 or min_spans < 0:
        raise ValueError(
            f"no mask has probability {probability}, length {length} and min_spans {min_spans}; give a probability "
            "from 0 to 1, a length of at least 1, and min_spans of at least 0."
        )
    spans = max(int(probability * frames / length + rng.random()), min_spans)
    if frames < 2:
        return np.full(frames, spans > 0)
    span = min(length, frames // 2)
    starts = rng.choice(frames - span, min(spans, frames - span), replace=False, shuffle=False)
    edges = np.zeros(frames, np.int64)
    edges[starts] = 1
    edges[starts + span] -= 1
    return edges.cumsum() > 0


def batch_span_masks(
    counts: Sequence[int],
    total: int,
    rngs: Sequence[np.random.Generator],
    *,
    probability: float = 0.8,
    length: int = 10,
    min_spans: int = 2,
    equal_counts: bool = False,
) -> Mask:
    """Draw the masks of a batch (clips, total); padding is never masked.

    Args:
        counts: frames of each clip.
        total: frames of each clip with padding.
        rngs: a random generator per clip, so that its mask does not depend on the others.
        probability: see `span_mask`.
        length: see `span_mask`.
        min_spans: see `span_mask`.
        equal_counts: unmask random frames until all clips have as many masked as the one with the fewest, as published.
    """
    masks = np.zeros((len(counts), total), bool)
    for mask, count, rng in zip(masks, counts, rngs, strict=True):
        mask[:count] = span_mask(count, rng, probability=probability, length=length, min_spans=min_spans)
    if equal_counts and len(counts):
        fewest = masks.sum(1).min()
        for mask, rng in zip(masks, rngs, strict=True):
            (masked,) = mask.nonzero()
            mask[rng.choice(masked, len(masked) - fewest, replace=False)] = False
    return masks
