"""Symbols: what the text model reads of a sentence, a phone or a pause each, and where words begin."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pretrain.labels.pronounce import PHONES

PAUSES = [",", ".", "?", "!"]
SYMBOLS = ["<begin>", *PAUSES, *PHONES]
NUMBER = {symbol: number for number, symbol in enumerate(SYMBOLS)}
Reader = Callable[[Sequence[str]], list[list[str]]]  # words -> the phones of each


class Sentence(NamedTuple):
    """A sentence to say.

    Attributes:
        symbols: numbers of `SYMBOLS`; a begin, phones and pauses, and a pause at the end.
        begins: of each, 1 where a word begins, else 0.
        words: which word each is of; -1 for what is none.
    """

    symbols: list[int]
    begins: list[int]
    words: list[int]


def sentence_of(spoken: str, read: Reader) -> Sentence:
    """Give the symbols of a sentence as `ssl_vc.tts.text.spoken` writes it.

    Args:
        spoken: small letters, and pauses that follow a word.
        read: says words.
    """
    tokens = "".join(f" {sign} " if sign in PAUSES else sign for sign in spoken).split()
    words = [token for token in tokens if token not in PAUSES]
    if not words:
        raise ValueError(f"there is no word in {spoken[:40]!r}.")
    said = iter(read(words))
    symbols, begins, of = [NUMBER["<begin>"]], [0], [-1]
    word = -1
    for token in tokens:
        if token in PAUSES:
            symbols.append(NUMBER[token])
            begins.append(0)
            of.append(-1)
            continue
        word += 1
        for number, phone in enumerate(next(said)):
            symbols.append(NUMBER[phone])
            begins.append(int(number == 0))
            of.append(word)
    if SYMBOLS[symbols[-1]] not in PAUSES:
        symbols, begins, of = [*symbols, NUMBER["."]], [*begins, 0], [*of, -1]
    return Sentence(symbols, begins, of)
