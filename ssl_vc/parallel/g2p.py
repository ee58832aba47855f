"""Grapheme-to-phoneme for Kokoro: English text as IPA in Kokoro's notation, by whichever package is installed."""

import re
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import NamedTuple

from ssl_vc.tts.espeak import Espeak

ESPEAK_TO_KOKORO = {
    "tʃ": "ʧ", "dʒ": "ʤ", "eɪ": "A", "aɪ": "I", "oʊ": "O", "aʊ": "W", "ɔɪ": "Y", "ɜː": "ɜɹ", "ɜːɹ": "ɜɹ", "ɚ": "əɹ",
    "ɚɹ": "əɹ", "ɐ": "ə", "r": "ɹ", "ɾ": "T", "ʔ": "t", "g": "ɡ", "e": "A", "o": "ɔ", "x": "k", "ɬ": "l",
    "n\u0329": "ᵊn", "l\u0329": "ᵊl", "\u0329": "", "ː": "", "_": "",
}  # fmt: skip
NOTATION = re.compile("|".join(sorted(map(re.escape, ESPEAK_TO_KOKORO), key=len, reverse=True)))
CLAUSE = re.compile(r"(.+?)([.,;:!?—–…]++(?!\w)|[—–…]|\.{3}|$)")  # the point of 3.5 ends no clause


class G2P(NamedTuple):
    """A grapheme-to-phoneme converter.

    Attributes:
        name: of the package with its version, or of the program.
        phonemize: text to phones, in segments to synthesise one by one.
    """

    name: str
    phonemize: Callable[[str], list[str]]


def _hibari() -> G2P:
    g2p = import_module("hibari").Hibari()
    return G2P(f"hibari-tts {version('hibari-tts')}", lambda text: list(g2p.phonemize(text)))


def _misaki() -> G2P:
    g2p = import_module("misaki.en").G2P()
    return G2P(f"misaki {version('misaki')}", lambda text: [g2p(text)[0]])


def _espeak() -> G2P:
    espeak = Espeak()

    def phonemize(text: str) -> list[str]:
        found = CLAUSE.findall(" ".join(text.split()))
        clauses = [(words, mark) for words, mark in found if any(map(str.isalnum, words))]
        lines = espeak.ipa([words for words, _ in clauses])
        phones = (NOTATION.sub(lambda found: ESPEAK_TO_KOKORO[found[0]], line.strip()) for line in lines)
        return [" ".join(line + mark for line, (_, mark) in zip(phones, clauses, strict=True))]

    return G2P("espeak-ng", phonemize)


PACKAGES = {"hibari": _hibari, "misaki": _misaki, "espeak": _espeak}


def load_g2p(name: str | None = None) -> G2P:
    """Load a g2p by name; the first that is installed if None."""
    if name not in (None, *PACKAGES):
        raise ValueError(f"there is no g2p {name!r}; possible are {', '.join(PACKAGES)}.")
    for load in PACKAGES.values() if name is None else (PACKAGES[name],):
        try:
            return load()
        except (ImportError, ValueError):
            continue
    missing = "no g2p is installed" if name is None else f"the g2p {name!r} is not installed"
    raise ValueError(f"{missing}; pip install --no-deps hibari-tts, pip install 'misaki[en]', or install espeak-ng.")
