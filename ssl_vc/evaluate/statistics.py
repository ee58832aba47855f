"""Figures of many pairs, and how sure they are.

Efron, 1979, "Bootstrap Methods: Another Look at the Jackknife": what other pairs would have given is guessed by drawing
as many from those at hand, with repetition, again and again. The same seed draws the same pairs for every figure of as
many pairs, so that systems judged on the same pairs are drawn alike.
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
    """A figure with its 95 % interval.

    Attributes:
        value: of all pairs.
        low: where the interval begins.
        high: where it ends.
        count: pairs that it is made of; of one alone the interval says nothing, and has no width.
    """

    value: float
    low: float
    high: float
    count: int  # type: ignore[assignment]  # tuples have a method of that name


def estimate(
    figure: Callable[[Indices], float | None], count: int, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Estimate | None:
    """Estimate any figure of `count` pairs; None where all together do not tell it.

    Args:
        figure: gives the figure of the pairs at some indices (count,), which repeat; None where these do not tell it.
        count: how many pairs there are.
        resamples: how often pairs are drawn.
        seed: of the draws.
    """
    value = figure(np.arange(count)) if count else None
    if value is None:
        return None
    known = [drawn for drawn in map(figure, _draws(count, resamples, seed)) if drawn is not None]
    return _estimate(value, np.array(known, np.float64), count)


def mean(values: Sequence[float | None], *, resamples: int = RESAMPLES, seed: int = SEED) -> Estimate | None:
    """Estimate the mean of the values that are known; None where none is."""
    known = np.array([value for value in values if value is not None], np.float64)
    if not len(known):
        return None
    return _estimate(known.mean(), known[_draws(len(known), resamples, seed)].mean(1), len(known))


def ratio(
    parts: Sequence[float], wholes: Sequence[float], *, resamples: int = RESAMPLES, seed: int = SEED
) -> Estimate | None:
    """Estimate the sum of the parts by that of the wholes, as error rates are pooled; None where there is no whole."""
    if len(parts) != len(wholes):
        raise ValueError(f"there are {len(parts)} parts and {len(wholes)} wholes; give as many of each.")
    part, whole = np.array(parts, np.float64), np.array(wholes, np.float64)
    if not whole.sum() > 0:
        return None
    draws = _draws(len(part), resamples, seed)
    above, below = part[draws].sum(1), whole[draws].sum(1)
    told = below > 0
    return _estimate(part.sum() / whole.sum(), above[told] / below[told], len(part))


def _draws(count: int, resamples: int, seed: int) -> Indices:
    """Indices (resamples, count)."""
    return np.random.default_rng(seed).integers(count, size=(resamples, count))


def _estimate(value: float, drawn: npt.NDArray[np.float64], count: int) -> Estimate:
    low, high = np.percentile(drawn, INTERVAL) if len(drawn) else (value, value)
    return Estimate(float(value), float(low), float(high), count)
