"""What was said and what was heard: made comparable, and compared."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from pretrain.labels.pronounce import words

PLAIN = str.maketrans(dict.fromkeys("‘’‛ʼʹ′＇`´", "'"))


class Errors(NamedTuple):
    """How many words (letters) were substituted, left out or put in, and how many had been said."""

    wrong: int
    of: int


def normalized(text: str) -> str:
    """Give a text's words in lower case with one space between them, without punctuation but for inner apostrophes."""
    return " ".join(words(text.translate(PLAIN)))


def word_errors(said: str, heard: str, normalize: Callable[[str], str] = normalized) -> Errors:
    """Returns the word errors of what was recognised, both texts normalised."""
    said, heard = normalize(said), normalize(heard)
    return _errors("process_words", said, heard, len(heard.split()))


def letter_errors(said: str, heard: str, normalize: Callable[[str], str] = normalized) -> Errors:
    """Returns the character errors of what was recognised, spaces between words included, both texts normalised."""
    said, heard = normalize(said), normalize(heard)
    return _errors("process_characters", said, heard, len(heard))


def _errors(count: str, said: str, heard: str, put_in: int) -> Errors:
    if not said:
        return Errors(put_in, 0)  # which jiwer refuses
    found = getattr(counter(), count)(said, heard)
    wrong = found.substitutions + found.deletions + found.insertions
    return Errors(wrong, found.hits + found.substitutions + found.deletions)


def counter() -> Any:
    """Give the package that counts."""
    try:
        return import_module("jiwer")
    except ImportError:
        raise ValueError("jiwer, which counts the errors in words, is missing; pip install 'ssl-vc[eval]'.") from None
