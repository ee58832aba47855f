"""A language model of a few sentences: how likely a word is after another, with absolute discounting.

Ney, Essen and Kneser, 1994, "On Structuring Probabilistic Dependences in Stochastic Language Modelling": of each pair
of words that was seen a fixed part of its count is taken away and given to the words not seen there, as often as they
are anywhere. Written in the ARPA format, base-10 logarithms with the weight of backing off behind each first word.

    p(w | h) = (count(h w) - discount) / count(h)          where h w was seen
             = weight(h) p(w)                              elsewhere; weight(h) makes the sum over w 1
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
    """Write the bigram model of sentences, which are words with spaces between them, in ARPA format.

    Args:
        sentences: what is said; an empty one is left out.
        path: the file; it appears whole or not at all.
        discount: what is taken off each count, more than 0 and less than 1.
    """
    spoken = [[START, *words, END] for words in (sentence.split() for sentence in sentences) if words]
    single = Counter(word for words in spoken for word in words[1:])
    pairs = Counter(pair for words in spoken for pair in pairwise(words))
    if not single:
        raise ValueError("a language model needs sentences with words in them; none was given.")
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
        taken = discount if len(seen) < len(single) else 0.0  # where all have been seen, there is nobody to give to
        of = sum(seen.values())
        bigrams += [f"{math.log10((seen[word] - taken) / of):.6f}\t{first} {word}" for word in sorted(seen)]
    counts = f"ngram 1={len(unigrams)}\nngram 2={len(bigrams)}"
    parts = ["\\data\\", counts, "", "\\1-grams:", *unigrams, "", "\\2-grams:", *bigrams, "", "\\end\\", ""]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _weight(seen: dict[str, int], single: Counter[str], discount: float) -> float:
    """Give the logarithm of the weight with which the words not seen after a word get what was taken from the seen."""
    unseen = single.total() - sum(single[word] for word in seen)
    if not unseen:
        return NEVER
    return math.log10(discount * len(seen) / sum(seen.values()) * single.total() / unseen)
