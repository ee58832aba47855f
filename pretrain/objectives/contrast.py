"""Contrastive prediction among sampled negatives: the logits of the true target and of others of the same clip."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_negatives(counts: Tensor, number: int) -> Tensor:
    """Return `number` random other frames of the same clip for each frame (frames, number).

    Args:
        counts: frames of each clip (clips,); the clips are concatenated. A clip's only frame gets itself.
        number: of negatives.
    """
    size = counts.repeat_interleave(counts)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    place = torch.arange(len(size), device=counts.device) - first
    others = (torch.rand(len(size), number, device=counts.device) * (size - 1)[:, None]).long()
    others = others.clamp(max=(size - 2).clamp(min=0)[:, None])  # the product may be rounded up
    others += (others >= place[:, None]) & (size > 1)[:, None]
    return first[:, None] + others


def contrastive_logits(predictions: Tensor, targets: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Return scaled cosines (frames, 1 + number) to the target and the negatives; -inf for a negative that equals it.

    Args:
        predictions: (frames, dim).
        targets: (frames, dim).
        negatives: other targets (frames, number, dim).
        temperature: that cosines are divided by.
    """
    with torch.autocast(predictions.device.type, enabled=False):
        candidates = torch.cat([targets[:, None], negatives], 1).float()
        logits = F.cosine_similarity(predictions.float()[:, None], candidates, dim=-1) / temperature
        same = (candidates[:, 1:] == candidates[:, :1]).all(-1)
        return torch.cat([logits[:, :1], logits[:, 1:].masked_fill(same, -math.inf)], 1)
