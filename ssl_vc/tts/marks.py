"""Marks: parts of a text that are said with another blend, as in `I said <voice blend=0.3>this</voice> and that`."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ssl_vc.options import check_range
from ssl_vc.tts.text import NothingToSayError, sentences, spoken

MARK = re.compile(r"<voice\s+blend\s*=\s*[\"']?\s*(\d*\.?\d+)\s*[\"']?\s*>(.*?)</voice\s*>", re.DOTALL | re.IGNORECASE)
ANY = re.compile(r"</?voice", re.IGNORECASE)


class Line(NamedTuple):
    """A sentence to say.

    Attributes:
        spoken: as `ssl_vc.tts.text.spoken` writes it.
        blends: of each word; None where it is that of all.
    """

    spoken: str
    blends: list[float | None]


def lines(text: str, blends: Sequence[float] = ()) -> list[Line]:
    """Give a text's sentences and the blend of each word; a marked part is read by itself.

    Args:
        text: may have marks.
        blends: of each word as it is spoken ("7 cats" are two), instead of marks.
    """
    parts = _parts(text)
    if len(parts) > 1:
        text, every = _joined(parts)
        if len(blends):
            raise ValueError("the text has marks, and there is a blend of each word; give one of them.")
    found = sentences(text)
    if len(parts) == 1:
        every = _given(blends, sum(len(_words(sentence)) for sentence in found))
    words = sum(len(_words(sentence)) for sentence in found)
    if words != len(every):  # a word was too long for a sentence, and cut
        raise ValueError("the text has a word that is too long to be said; part it.")
    rest = iter(every)
    return [Line(sentence, [next(rest) for _ in _words(sentence)]) for sentence in found]


def _given(blends: Sequence[float], words: int) -> list[float | None]:
    if len(blends) not in (0, words):
        raise ValueError(f"there are {len(blends)} blends for {words} words, as they are spoken; give one a word.")
    for each in blends:
        check_range("blend", each, 0, 4)
    return [float(each) for each in blends] or [None] * words


def _parts(text: str) -> list[tuple[str, float | None]]:
    """Part a text at its marks."""
    parts: list[tuple[str, float | None]] = []
    end = 0
    for mark in MARK.finditer(text):
        blend = float(mark[1])
        check_range("blend", blend, 0, 4)
        parts += [(text[end : mark.start()], None), (mark[2], blend)]
        end = mark.end()
    parts.append((text[end:], None))
    wrong = next((found for part, _ in parts if (found := ANY.search(part))), None)
    if wrong:
        at = wrong.string[wrong.start() :][:30]
        raise ValueError(f"the mark {at!r} cannot be read; write <voice blend=0.3>some words</voice>, none in another.")
    return parts


def _joined(parts: Sequence[tuple[str, float | None]]) -> tuple[str, list[float | None]]:
    """Give a text of parts as it is spoken, paragraphs still apart, and the blend of each word."""
    whole, blends = "", []
    for part, blend in parts:
        for number, paragraph in enumerate(re.split(r"\n\s*\n", part)):
            said = _said(paragraph)
            pause = re.match(r"\s*[,.?!;:]*", paragraph)
            before = pause[0].strip()[:1] if pause else ""
            whole += f"{'' if number == 0 else chr(10) * 2}{before if whole.strip() else ''} {said}"
            blends += [blend] * len(_words(said))
    return whole, blends


def _said(part: str) -> str:
    """Give a part as it is spoken: a sign may be a word, a comma is none."""
    try:
        return spoken(part)
    except NothingToSayError:
        return ""


def _words(said: str) -> list[str]:
    return re.findall(r"[a-z']+", said)
