"""Choice of a matcher, by name or by the amount of reference speech."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_vc.match.knn import KNN
from ssl_vc.match.linear import Linear
from ssl_vc.match.protocol import Match, Matcher, Pool, blend
from ssl_vc.match.replay import replay
from ssl_vc.match.smooth import Smooth
from ssl_vc.match.transport import Transport
from ssl_vc.options import MOST_NEIGHBOURS

MATCHERS: dict[str, KNN | Smooth | Linear | Transport] = {
    "knn": KNN(),
    "smooth": Smooth(),
    "linear": Linear(),
    "orthogonal": Linear(orthogonal=True),
    "low-rank": Linear(rank=100),
    "transport": Transport(),
}
LITTLE = 30.0  # seconds of reference, below which kNN loses words
PLENTY = 600.0  # seconds, from which more neighbours are still of the same phone
FEW, MANY = 4, 8  # neighbours


class Choice(NamedTuple):
    """A chosen matcher.

    Attributes:
        name: of the matcher.
        matcher: the matcher itself.
        reason: one sentence for the user.
    """

    name: str
    matcher: Matcher
    reason: str


class MixedMatcher(NamedTuple):
    """A weighted mean of two matchers, which must yield chunks of the same length.

    Attributes:
        first: a matcher.
        second: another one.
        share: weight of the second.
    """

    first: Matcher
    second: Matcher
    share: float

    @torch.no_grad()
    def __call__(self, chunks: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        """Yield the target's frames for a clip's; see `Matcher`."""
        with replay(chunks) as source:
            for one, other in zip(self.first(source, pool), self.second(source, pool), strict=True):
                distance = one.distance.fmin(other.distance)  # of the one that searched
                yield Match(blend(other.frames, one.frames, self.share), distance)


def choose(name: str | Matcher, pool: Pool, k: int | None = None) -> Choice:
    """Choose a matcher.

    Args:
        name: `auto` (by the amount of reference), a name of `MATCHERS`, or a matcher.
        pool: the target.
        k: number of neighbours averaged; the matcher's default if None. Refused by matchers without neighbours.
    """
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MOST_NEIGHBOURS):
        raise ValueError(f"k is {k!r}; give a whole number from 1 to {MOST_NEIGHBOURS}.")
    if not isinstance(name, str):
        matcher, name = name, type(name).__name__.lower()
    elif name == "auto":
        return _by_length(pool, k)
    elif name in MATCHERS:
        matcher = MATCHERS[name]
    else:
        raise ValueError(f"there is no matcher {name!r}; possible are auto, {', '.join(MATCHERS)}.")
    if k is not None:
        if not isinstance(matcher, KNN | Smooth):
            raise ValueError(f"k is {k}, but {name} averages no neighbours; leave k out, or choose knn or smooth.")
        matcher = matcher._replace(k=k)
    return Choice(name, matcher, f"{name} was requested.")


def _by_length(pool: Pool, k: int | None) -> Choice:
    length = f"{pool.seconds:.0f} s" if pool.seconds < 100 else f"{pool.seconds / 60:.0f} min"
    if pool.seconds < LITTLE:
        share = pool.seconds / LITTLE
        # transport maps frames within one space; into the space of another vocoder only a regression leads
        name, whole = ("transport", Transport()) if pool.same_space else ("linear", Linear())
        reason = (
            f"{length} of reference is little for knn alone, so knn has a weight of {share:.0%} and {name} the rest."
        )
        return Choice(f"{name}+knn", MixedMatcher(whole, KNN(k or FEW), share), reason)
    if pool.seconds < PLENTY or k is not None:
        k = k or FEW
        return Choice("knn", KNN(k), f"{length} of reference is enough for knn; {k} neighbours are averaged.")
    return Choice("knn", KNN(MANY), f"{length} of reference is plenty for knn, so {MANY} neighbours are averaged.")
