"""Choice: a matcher by name, or by how much there is of the target."""

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

MATCHERS: dict[str, KNN | Smooth | Linear | Transport] = {
    "knn": KNN(),
    "smooth": Smooth(),
    "linear": Linear(),
    "orthogonal": Linear(orthogonal=True),
    "low-rank": Linear(rank=100),
    "transport": Transport(),
}
LITTLE = 30.0  # seconds of reference; below, kNN loses words
PLENTY = 600.0  # seconds; from here a mean over more neighbours is still of alike sounds
FEW, MANY = 4, 8  # neighbours


class Choice(NamedTuple):
    """A matcher that was chosen.

    Attributes:
        name: of what is used.
        matcher: itself.
        why: one sentence for the user.
    """

    name: str
    matcher: Matcher
    why: str


class Both(NamedTuple):
    """Two matchers, which give as many frames at a time, mixed.

    Attributes:
        first: one.
        second: the other.
        share: of the second.
    """

    first: Matcher
    second: Matcher
    share: float

    @torch.no_grad()
    def __call__(self, pieces: Iterable[Tensor], pool: Pool) -> Iterator[Match]:
        """Give the target's frames for a clip's; see `Matcher`."""
        with replay(pieces) as source:
            for one, other in zip(self.first(source, pool), self.second(source, pool), strict=True):
                distance = one.distance.fmin(other.distance)  # of the one that looked for it
                yield Match(blend(other.frames, one.frames, self.share), distance)


def choose(name: str | Matcher, pool: Pool, k: int | None = None) -> Choice:
    """Choose a matcher.

    Args:
        name: `auto` (by how much reference there is), a name of `MATCHERS`, or a matcher, which is taken as it is.
        pool: the target.
        k: how many neighbours are averaged; the matcher's own choice if None. Refused where there are none.
    """
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
        raise ValueError(f"k is {k!r}; give a whole number of at least 1.")
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
    return Choice(name, matcher, f"{name} was asked for.")


def _by_length(pool: Pool, k: int | None) -> Choice:
    length = f"{pool.seconds:.0f} s" if pool.seconds < 100 else f"{pool.seconds / 60:.0f} min"
    if pool.seconds < LITTLE:
        share = pool.seconds / LITTLE
        # transport moves frames inside one space; where the vocoder reads another, only a regression leads there
        name, whole = ("transport", Transport()) if pool.same_space else ("linear", Linear())
        why = f"{length} of reference are little for knn alone, so it gives {share:.0%} of each frame, {name} the rest."
        return Choice(f"{name}+knn", Both(whole, KNN(k or FEW), share), why)
    if pool.seconds < PLENTY or k is not None:
        k = k or FEW
        return Choice("knn", KNN(k), f"{length} of reference are enough for knn; {k} neighbours are averaged.")
    return Choice("knn", KNN(MANY), f"{length} of reference are plenty for knn, so {MANY} neighbours are averaged.")
