"""Symbols: the input vocabulary of the text model (phones and pauses), and where words start."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pretrain.labels.tokenizers import PHONES

PAUSES = [",", ".", "?", "!"]
SYMBOLS = ["<begin>", *PAUSES, *PHONES]
SYMBOL_IDS = {symbol: number for number, symbol in enumerate(SYMBOLS)}
Phonemizer = Callable[[Sequence[str]], list[list[str]]]  # words -> the phones of each


class SymbolSequence(NamedTuple):
    """A sentence as symbols.

    Attributes:
        symbols: ids in `SYMBOLS`: a begin, phones and pauses, a final pause.
        word_starts: of each symbol, 1 where a word starts, else 0.
        words: index of the word of each symbol; -1 outside words.
    """

    symbols: list[int]
    word_starts: list[int]
    words: list[int]


def to_symbols(text: str, phonemize: Phonemizer) -> SymbolSequence:
    """Returns the symbols of a normalised sentence (see `ssl_vc.tts.text_normalization.normalize_text`).

    Args:
        text: lower-case words, and pauses that follow a word.
        phonemize: returns the phones of each word.
    """
    tokens = "".join(f" {sign} " if sign in PAUSES else sign for sign in text).split()
    words = [token for token in tokens if token not in PAUSES]
    if not words:
        raise ValueError(f"there is no word in {text[:40]!r}.")
    phones = enumerate(phonemize(words))
    rows = [(SYMBOL_IDS["<begin>"], 0, -1)]
    for token in tokens:
        if token in PAUSES:
            rows.append((SYMBOL_IDS[token], 0, -1))
            continue
        word, pronunciation = next(phones)
        rows += [(SYMBOL_IDS[phone], int(place == 0), word) for place, phone in enumerate(pronunciation)]
    if SYMBOLS[rows[-1][0]] not in PAUSES:
        rows.append((SYMBOL_IDS["."], 0, -1))
    symbols, word_starts, of = map(list, zip(*rows, strict=True))
    return SymbolSequence(symbols, word_starts, of)
