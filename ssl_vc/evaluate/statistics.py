"""Bootstrap confidence intervals.

Efron, 1979, "Bootstrap Methods: Another Look at the Jackknife": resample the pairs with replacement. One seed draws the
same pairs for every statistic of equally many pairs, so systems on the same pairs are compared on the same resamples.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

RESAMPLES = 100
SEED = 13
INTERVAL = 2.5, 97.5  # percentiles

Indices: TypeAlias = npt.NDArray[np.int64]


class Estimate(NamedTuple):
    """A statistic with its 95 % interval.

    Attributes:
        value: over all pairs.
        low: lower end of the interval.
        high: upper end of the interval.
        count: number of pairs; with one, the interval has no width and means nothing.
    """

    value: float
    low: float
    high: float
    count: int  # type: ignore[assignment]  # tuples have a method of that name


def bootstrap(
    statistic: Callable[[Indices], float | None], count: int, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Estimate | None:
    """Estimate any statistic of `count` pairs; None where it is undefined on all of them.

    Args:
        statistic: maps indices of pairs (count,), with repetitions, to its value; None where it is undefined.
        count: number of pairs.
        resamples: number of resamples.
        seed: of the draws.
    """
    value = statistic(np.arange(count)) if count else None
    if value is None:
        return None
    known = [drawn for drawn in map(statistic, _draws(count, resamples, seed)) if drawn is not None]
    return _estimate(value, np.array(known, np.float64), count)


def bootstrap_mean(values: Sequence[float | None], *, resamples: int = RESAMPLES, seed: int = SEED) -> Estimate | None:
    """Estimate the mean of the values that are not None; None where there are none."""
    known = np.array([value for value in values if value is not None], np.float64)
    if not len(known):
        return None
    return _estimate(known.mean(), known[_draws(len(known), resamples, seed)].mean(1), len(known))


def bootstrap_ratio(
    numerators: Sequence[float], denominators: Sequence[float], *, resamples: int = RESAMPLES, seed: int = SEED
) -> Estimate | None:
    """Estimate a pooled ratio (sum over sum), such as an error rate; None where the denominators sum to 0."""
    if len(numerators) != len(denominators):
        raise ValueError(f"there are {len(numerators)} numerators and {len(denominators)} denominators; pair them up.")
    above, below = np.array(numerators, np.float64), np.array(denominators, np.float64)
    if not below.sum() > 0:
        return None
    draws = _draws(len(above), resamples, seed)
    sums, lengths = above[draws].sum(1), below[draws].sum(1)
    defined = lengths > 0
    return _estimate(above.sum() / below.sum(), sums[defined] / lengths[defined], len(above))


def _draws(count: int, resamples: int, seed: int) -> Indices:
    """Indices (resamples, count)."""
    return np.random.default_rng(seed).integers(count, size=(resamples, count))


def _estimate(value: float, drawn: npt.NDArray[np.float64], count: int) -> Estimate:
    low, high = np.percentile(drawn, INTERVAL) if len(drawn) else (value, value)
    return Estimate(float(value), float(low), float(high), count)
