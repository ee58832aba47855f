"""Markup: parts of a text with their own blend, as in `I said <voice blend=0.3>this</voice> and that`."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ssl_vc.options import check_range
from ssl_vc.tts.text_normalization import EmptyTextError, normalize_text, split_sentences

ELEMENT = re.compile(
    r"<voice\s+blend\s*=\s*[\"']?\s*(\d*\.?\d+)\s*[\"']?\s*>(.*?)</voice\s*>", re.DOTALL | re.IGNORECASE
)
TAG = re.compile(r"</?voice", re.IGNORECASE)


class MarkedSentence(NamedTuple):
    """A sentence with a blend per word.

    Attributes:
        text: normalised (see `ssl_vc.tts.text_normalization.normalize_text`).
        blends: of each word; None for the default.
    """

    text: str
    blends: list[float | None]


def parse_markup(text: str, blends: Sequence[float] = ()) -> list[MarkedSentence]:
    """Returns a text's sentences with the blend of each word; each marked part is normalised by itself.

    Args:
        text: with or without markup.
        blends: of each normalised word ("7 cats" has two), instead of markup.
    """
    parts = _split_parts(text)
    if len(parts) > 1:
        text, every = _join_parts(parts)
        if len(blends):
            raise ValueError("the text has markup, and there are blends per word; use one of them.")
    sentences = split_sentences(text)
    words = sum(len(_words(sentence)) for sentence in sentences)
    if len(parts) == 1:
        every = _checked(blends, words)
    if words != len(every):  # a word was longer than a sentence may be, and cut
        raise ValueError("the text has a word that is too long; split it.")
    rest = iter(every)
    return [MarkedSentence(sentence, [next(rest) for _ in _words(sentence)]) for sentence in sentences]


def _checked(blends: Sequence[float], words: int) -> list[float | None]:
    if len(blends) not in (0, words):
        raise ValueError(f"there are {len(blends)} blends for {words} normalised words; give one per word.")
    for each in blends:
        check_range("blend", each, 0, 4)
    return [float(each) for each in blends] or [None] * words


def _split_parts(text: str) -> list[tuple[str, float | None]]:
    """Split a text at its markup."""
    parts: list[tuple[str, float | None]] = []
    end = 0
    for element in ELEMENT.finditer(text):
        blend = float(element[1])
        check_range("blend", blend, 0, 4)
        parts += [(text[end : element.start()], None), (element[2], blend)]
        end = element.end()
    parts.append((text[end:], None))
    stray = next((found for part, _ in parts if (found := TAG.search(part))), None)
    if stray:
        at = stray.string[stray.start() :][:30]
        raise ValueError(f"the markup {at!r} is invalid; write <voice blend=0.3>some words</voice>, not nested.")
    return parts


def _join_parts(parts: Sequence[tuple[str, float | None]]) -> tuple[str, list[float | None]]:
    """Returns the normalised text of all parts, paragraphs kept apart, and the blend of each word."""
    whole, blends = "", []
    for part, blend in parts:
        for number, paragraph in enumerate(re.split(r"\n\s*\n", part)):
            normalized = _normalize_part(paragraph)
            pause = re.match(r"\s*[,.?!;:]*", paragraph)
            before = pause[0].strip()[:1] if pause else ""
            whole += f"{'' if number == 0 else chr(10) * 2}{before if whole.strip() else ''} {normalized}"
            blends += [blend] * len(_words(normalized))
    return whole, blends


def _normalize_part(part: str) -> str:
    """Returns a part normalised, which may be punctuation alone."""
    try:
        return normalize_text(part)
    except EmptyTextError:
        return ""


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text)
