"""Speaker similarity and equal error rates from the embeddings of `ssl_vc.evaluate.verifier`.

Embeddings have unit length, so a product is a cosine.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class NaturalSimilarity(NamedTuple):
    """How well a verifier separates natural speakers; None where there are too few clips.

    Attributes:
        same: mean cosine of a clip to the centroid of its speaker's other clips.
        other: of a clip to the centroids of the other speakers.
        eer: equal error rate, in percent, over all pairs of clips.
    """

    same: float | None
    other: float | None
    eer: float | None


def centroid(embeddings: Tensor) -> Tensor:
    """Returns the normalised mean (dim,) of embeddings (n, dim)."""
    return torch.nn.functional.normalize(embeddings.mean(0), dim=0)


def equal_error_rate(same: Tensor, other: Tensor) -> float:
    """Returns the equal error rate, in percent: as many true pairs are rejected as false pairs are accepted.

    A higher score means a more likely true pair. Both error rates are interpolated linearly between neighbouring
    thresholds, so the order of ties does not matter.

    Args:
        same: scores of true pairs (n,).
        other: scores of false pairs (m,).
    """
    if not len(same) or not len(other):
        raise ValueError(f"there are {len(same)} true and {len(other)} false pairs; at least one of each is needed.")
    same, other = (scores.double().sort().values for scores in (same, other))
    thresholds = torch.cat([same, other]).unique()  # ascending; a score equal to it is accepted
    rejected = torch.searchsorted(same, thresholds).double() / len(same)
    accepted = 1 - torch.searchsorted(other, thresholds).double() / len(other)
    rejected, accepted = torch.cat([rejected, rejected.new_ones(1)]), torch.cat([accepted, accepted.new_zeros(1)])
    gap = rejected - accepted  # from -1 (all accepted) to 1 (none accepted)
    at = int((gap >= 0).nonzero()[0])
    share = gap[at - 1] / (gap[at - 1] - gap[at])
    return 100 * float(torch.lerp(rejected[at - 1], rejected[at], share))


def natural_similarity(trials: Mapping[str, Tensor]) -> NaturalSimilarity:
    """Compare natural clips with each other.

    Args:
        trials: embeddings (n, dim) of each speaker's clips.
    """
    known = [embeddings for embeddings in trials.values() if len(embeddings)]
    centroids = [centroid(embeddings) for embeddings in known]
    same, other, true, false = [], [], [], []
    for speaker, embeddings in enumerate(known):
        if len(embeddings) > 1:
            same.append(leave_one_out_similarity(embeddings))
            true.append(_within(embeddings))
        others = centroids[:speaker] + centroids[speaker + 1 :]
        if others:
            other.append((embeddings @ torch.stack(others).T).mean(1))
        false += [(embeddings @ later.T).flatten() for later in known[speaker + 1 :]]
    eer = equal_error_rate(torch.cat(true), torch.cat(false)) if true and false else None
    return NaturalSimilarity(_mean(same), _mean(other), eer)


def conversion_eer(converted: Mapping[str, Tensor], trials: Mapping[str, Tensor]) -> float | None:
    """Returns kNN-VC's equal error rate, in percent, of a verifier telling converted clips from real ones.

    Two real clips are a true pair; a converted and a real clip are a false pair. Rates are averaged over targets. 50 is
    chance, so higher is better. None where no target has two real clips and a converted one.

    Args:
        converted: embeddings (n, dim) of the clips converted to each target.
        trials: embeddings (m, dim) of each target's real clips.
    """
    rates = [
        equal_error_rate(_within(trials[target]), (embeddings @ trials[target].T).flatten())
        for target, embeddings in converted.items()
        if len(embeddings) and len(trials.get(target, ())) > 1
    ]
    return sum(rates) / len(rates) if rates else None


def leave_one_out_similarity(embeddings: Tensor) -> Tensor:
    """Returns the cosine (n,) of each embedding (n, dim) to the centroid of all others."""
    others = torch.nn.functional.normalize(embeddings.sum(0) - embeddings, dim=1)
    return (embeddings * others).sum(1)


def _within(embeddings: Tensor) -> Tensor:
    """The cosines of all pairs of embeddings (n, dim), each once."""
    first, second = torch.triu_indices(len(embeddings), len(embeddings), offset=1)
    return (embeddings @ embeddings.T)[first, second]


def _mean(parts: list[Tensor]) -> float | None:
    return float(torch.cat(parts).double().mean()) if parts else None
