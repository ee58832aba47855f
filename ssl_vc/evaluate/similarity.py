"""Who speaks, by the cosines of speakers' vectors; a judge of `ssl_vc.evaluate.verifier` makes them.

Every vector is of unit length, so that a product is a cosine.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class NaturalSimilarity(NamedTuple):
    """How well a verifier tells natural speakers apart; None is what these clips cannot tell.

    Attributes:
        same: mean cosine of a clip to the centre of its speaker's other clips.
        other: of a clip to the centres of the other speakers.
        eer: equal error rate, in percent, over all pairs of clips.
    """

    same: float | None
    other: float | None
    eer: float | None


def centre(vectors: Tensor) -> Tensor:
    """Give the unit vector (dim,) of the mean of some vectors (n, dim)."""
    return torch.nn.functional.normalize(vectors.mean(0), dim=0)


def equal_error_rate(same: Tensor, other: Tensor) -> float:
    """Give the error, in percent, of a threshold that misses as many true pairs as it takes false ones.

    The higher a score, the more a pair is taken for true. Between two thresholds that stand next to each other both
    errors go along a straight line; ties lie on such a line, so that it does not matter in which order they come.

    Args:
        same: scores of true pairs (n,).
        other: scores of false pairs (m,).
    """
    if not len(same) or not len(other):
        raise ValueError(f"there are {len(same)} true and {len(other)} false pairs; give at least one of each.")
    same, other = (scores.double().sort().values for scores in (same, other))
    thresholds = torch.cat([same, other]).unique()  # in order; a score that equals it is taken
    missed = torch.searchsorted(same, thresholds).double() / len(same)
    taken = 1 - torch.searchsorted(other, thresholds).double() / len(other)
    missed, taken = torch.cat([missed, missed.new_ones(1)]), torch.cat([taken, taken.new_zeros(1)])
    gap = missed - taken  # from -1, where all are taken, to 1, where none is
    at = int((gap >= 0).nonzero()[0])
    share = gap[at - 1] / (gap[at - 1] - gap[at])
    return 100 * float(torch.lerp(missed[at - 1], missed[at], share))


def of_speakers(trials: Mapping[str, Tensor]) -> NaturalSimilarity:
    """Measure natural clips against each other.

    Args:
        trials: the vectors (n, dim) of every speaker's clips.
    """
    known = [vectors for vectors in trials.values() if len(vectors)]
    centres = [centre(vectors) for vectors in known]
    same, other, true, false = [], [], [], []
    for speaker, vectors in enumerate(known):
        if len(vectors) > 1:
            same.append(to_the_others(vectors))
            true.append(_within(vectors))
        others = centres[:speaker] + centres[speaker + 1 :]
        if others:
            other.append((vectors @ torch.stack(others).T).mean(1))
        false += [(vectors @ later.T).flatten() for later in known[speaker + 1 :]]
    eer = equal_error_rate(torch.cat(true), torch.cat(false)) if true and false else None
    return NaturalSimilarity(_mean(same), _mean(other), eer)


def conversion_eer(converted: Mapping[str, Tensor], trials: Mapping[str, Tensor]) -> float | None:
    """Give kNN-VC's equal error rate, in percent: of a verifier that tells converted clips of a target from real ones.

    Pairs of two real clips are the true ones, those of a converted and a real clip the false ones. The rates of all
    targets are averaged. At 50 the verifier can only guess, so higher is better. None where no target has two real
    clips and a converted one.

    Args:
        converted: the vectors (n, dim) of the clips that were converted to each target.
        trials: the vectors (m, dim) of each target's real clips.
    """
    rates = [
        equal_error_rate(_within(trials[target]), (vectors @ trials[target].T).flatten())
        for target, vectors in converted.items()
        if len(vectors) and len(trials.get(target, ())) > 1
    ]
    return sum(rates) / len(rates) if rates else None


def to_the_others(vectors: Tensor) -> Tensor:
    """Give the cosine of each vector (n, dim) to the centre of all but itself (n,)."""
    others = torch.nn.functional.normalize(vectors.sum(0) - vectors, dim=1)
    return (vectors * others).sum(1)


def _within(vectors: Tensor) -> Tensor:
    """Give the cosines of all pairs among some vectors (n, dim), each once."""
    first, second = torch.triu_indices(len(vectors), len(vectors), offset=1)
    return (vectors @ vectors.T)[first, second]


def _mean(parts: list[Tensor]) -> float | None:
    return float(torch.cat(parts).double().mean()) if parts else None
