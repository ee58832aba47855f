"""Word and character errors of a recogniser's hypothesis."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from pretrain.labels.tokenizers import words

PLAIN = str.maketrans(dict.fromkeys("‘’‛ʼʹ′＇`´", "'"))


class ErrorCount(NamedTuple):
    """Substitutions, deletions and insertions together, and the length of the reference."""

    errors: int
    length: int


def normalize_text(text: str) -> str:
    """Returns the words in lower case, separated by single spaces, with no punctuation but inner apostrophes."""
    return " ".join(words(text.translate(PLAIN)))


def word_errors(reference: str, hypothesis: str, normalize: Callable[[str], str] = normalize_text) -> ErrorCount:
    """Returns the word errors of a hypothesis, both texts normalised."""
    reference, hypothesis = normalize(reference), normalize(hypothesis)
    return _count("process_words", reference, hypothesis, len(hypothesis.split()))


def character_errors(reference: str, hypothesis: str, normalize: Callable[[str], str] = normalize_text) -> ErrorCount:
    """Returns the character errors of a hypothesis, spaces included, both texts normalised."""
    reference, hypothesis = normalize(reference), normalize(hypothesis)
    return _count("process_characters", reference, hypothesis, len(hypothesis))


def _count(function: str, reference: str, hypothesis: str, insertions: int) -> ErrorCount:
    if not reference:
        return ErrorCount(insertions, 0)  # jiwer refuses an empty reference
    found = getattr(load_jiwer(), function)(reference, hypothesis)
    errors = found.substitutions + found.deletions + found.insertions
    return ErrorCount(errors, found.hits + found.substitutions + found.deletions)


def load_jiwer() -> Any:
    """Import jiwer; raises ValueError with the cure if it is missing."""
    try:
        return import_module("jiwer")
    except ImportError:
        raise ValueError("jiwer, which counts word errors, is missing; pip install 'ssl-vc[eval]'.") from None
