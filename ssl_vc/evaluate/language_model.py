"""A bigram language model with absolute discounting.

Ney, Essen and Kneser, 1994, "On Structuring Probabilistic Dependences in Stochastic Language Modelling": a fixed
discount is taken off the count of each seen bigram and distributed over the unseen words in proportion to their
unigrams. Written in ARPA format: base-10 logarithms, with the back-off weight after each history word.

    p(w | h) = (count(h w) - discount) / count(h)          if h w was seen
             = weight(h) p(w)                              otherwise; weight(h) normalises the sum over w
"""

import math
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from ssl_vc.files import replacing

START, END = "<s>", "</s>"
NEVER = -99.0  # the format's logarithm of 0


def write_bigrams(sentences: Iterable[str], path: Path, *, discount: float = 0.5) -> None:
    """Write the bigram model of sentences (words separated by spaces) in ARPA format.

    Args:
        sentences: training text; empty ones are left out.
        path: the file, written atomically.
        discount: taken off each count, between 0 and 1.
    """
    sentence_words = [[START, *words, END] for words in (sentence.split() for sentence in sentences) if words]
    single = Counter(word for words in sentence_words for word in words[1:])
    pairs = Counter(pair for words in sentence_words for pair in pairwise(words))
    if not single:
        raise ValueError("a language model needs at least one sentence with words.")
    followers: dict[str, dict[str, int]] = {}
    for (first, second), count in pairs.items():
        followers.setdefault(first, {})[second] = count
    total = single.total()
    unigrams = [f"{NEVER:.6f}\t{START}\t{_weight(followers[START], single, discount):.6f}"]
    for word in sorted(single):
        weight = f"\t{_weight(followers[word], single, discount):.6f}" if word != END else ""
        unigrams.append(f"{math.log10(single[word] / total):.6f}\t{word}{weight}")
    bigrams = []
    for first in sorted(followers):
        seen = followers[first]
        applied = discount if len(seen) < len(single) else 0.0  # no unseen words to discount for
        count = sum(seen.values())
        bigrams += [f"{math.log10((seen[word] - applied) / count):.6f}\t{first} {word}" for word in sorted(seen)]
    counts = f"ngram 1={len(unigrams)}\nngram 2={len(bigrams)}"
    parts = ["\\data\\", counts, "", "\\1-grams:", *unigrams, "", "\\2-grams:", *bigrams, "", "\\end\\", ""]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _weight(seen: dict[str, int], single: Counter[str], discount: float) -> float:
    """The base-10 logarithm of the back-off weight of a history with the seen followers."""
    unseen = single.total() - sum(single[word] for word in seen)
    if not unseen:
        return NEVER
    return math.log10(discount * len(seen) / sum(seen.values()) * single.total() / unseen)
