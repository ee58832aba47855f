"""Which frames the encoder does not get to see.

Baevski et al., 2020, "wav2vec 2.0", arXiv 2006.11477, and Hsu et al., 2021, "HuBERT", arXiv 2106.07447: spans of a
fixed length start at random frames and may overlap. Here every clip of a batch keeps a number of masked frames of its
own, instead of all being cut to the fewest; and in a clip of less than two spans, a span is half the clip.

    length 3, starts 1 and 3:   . # # # # # . .     (the last frame is never masked, as published)
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def span_mask(
    frames: int, rng: np.random.Generator, *, probability: float = 0.8, length: int = 10, least: int = 2
) -> Mask:
    """Draw which frames of a clip are masked (frames,); some of them, and never all unless there is but one.

    Args:
        frames: how many the clip has.
        rng: what to draw from.
        probability: the share that would be masked if spans never overlapped: with 0.8 it is 57 %, with 0.65 49 %.
        length: of a span, in frames.
        least: how many spans there are at the least.
    """
    if not 0 <= probability <= 1 or length < 1 or least < 0:
        raise ValueError(
            f"probability {probability}, length {length} and least {least} make no mask; give a probability from 0 to "
            "1, a length of at least 1, and least of at least 0."
        )
    spans = max(int(probability * frames / length + rng.random()), least)
    if frames < 2:
        return np.full(frames, spans > 0)
    span = min(length, frames // 2)
    starts = rng.choice(frames - span, min(spans, frames - span), replace=False, shuffle=False)
    edges = np.zeros(frames, np.int64)
    edges[starts] = 1
    edges[starts + span] -= 1
    return edges.cumsum() > 0


def span_masks(
    counts: Sequence[int],
    total: int,
    rngs: Sequence[np.random.Generator],
    *,
    probability: float = 0.8,
    length: int = 10,
    least: int = 2,
    equal: bool = False,
) -> Mask:
    """Draw the masks of a batch (clips, total); padding is never masked.

    Args:
        counts: how many frames each clip has.
        total: how many each has with its padding.
        rngs: what to draw from, one for each clip, so that its mask does not depend on its neighbours.
        probability: see `span_mask`.
        length: see `span_mask`.
        least: see `span_mask`.
        equal: unmask frames at random until all clips have as few masked as the one with the fewest, as published.
    """
    masks = np.zeros((len(counts), total), bool)
    for mask, count, rng in zip(masks, counts, rngs, strict=True):
        mask[:count] = span_mask(count, rng, probability=probability, length=length, least=least)
    if equal and len(counts):
        fewest = masks.sum(1).min()
        for mask, rng in zip(masks, rngs, strict=True):
            (masked,) = mask.nonzero()
            mask[rng.choice(masked, len(masked) - fewest, replace=False)] = False
    return masks
