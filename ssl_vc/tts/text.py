"""Text as it is spoken: English in small letters, with all that is written in signs and digits said in words.

What comes out has letters, apostrophes inside words, spaces, and the pauses `, . ? !`; made again it stays as it is.
"""

import re
import unicodedata
from collections.abc import Callable

from ssl_vc.tts.numerals import LARGEST, cardinal, decimal, digits, ordinal, plural, roman, year
from ssl_vc.tts.vocabulary import (
    ABBREVIATIONS,
    ADDRESSED,
    ALIKE,
    CURRENCIES,
    DOTTED,
    FRACTIONS,
    MONTHS,
    SEVERAL,
    SIGNS,
    SPELLED,
    UNITS,
)

LONGEST = 250  # letters of a sentence; a longer one is cut at a pause, or between words
TURNS = 4  # after so many, nothing is left to say otherwise

_MONTH = rf"({'|'.join(MONTHS)}|{'|'.join(month[:3] for month in MONTHS if month != 'May')})\b\.?"
_NUMBER = r"((?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
_HALF = r"([ap](?:\.m\.|m\b))"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:,?\s(\d{4})\b)?"
SCALES = r"(thousand|million|billion|trillion)"
TYPED = str.maketrans({"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', "…": ". ", "—": ", ", "–": "-", "−": "-"})
FOLDED = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"})
FOLDED |= str.maketrans({"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i"})


class NothingToSayError(ValueError):
    """A text without words."""


Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]


def spoken(text: str) -> str:
    """Give a text as it is spoken, in one line.

    Args:
        text: in English; letters of other scripts are refused, those with accents are read without.
    """
    plain = _plain(text)
    for _ in range(TURNS):
        if (again := _once(plain)) == plain:
            break
        plain = again
    if not re.search("[a-z]", plain):
        raise NothingToSayError(f"there is nothing to say in {text[:40]!r}; give words or numbers.")
    return plain


def sentences(text: str, longest: int = LONGEST) -> list[str]:
    """Give a text's sentences as they are spoken; lines that are parted by an empty one are never one sentence."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        if re.search(r"\w", paragraph):
            found += [
                part
                for each in re.findall(r".+?(?:[.?!]+(?= |$)|$)", spoken(paragraph))
                for part in _cut(each, longest)
            ]
    if not found:
        raise ValueError(f"there is nothing to say in {text[:40]!r}; give words or numbers.")
    return found


def _cut(sentence: str, longest: int) -> list[str]:
    """Cut what is too long at its pauses, or else between words."""
    parts, rest = [], sentence.strip()
    while len(rest) > longest:
        at = (
            max(rest.rfind(", ", 0, longest) + 1, 0) or rest.rfind(" ", 0, longest)
            if " " in rest[:longest]
            else longest
        )
        parts.append(rest[:at].strip())
        rest = rest[at:].strip()
    return [part for part in (*parts, rest) if re.search("[a-z]", part)]


def _plain(text: str) -> str:
    """Give a text in letters without accents."""
    text = unicodedata.normalize("NFKC", text.translate(TYPED)).translate(TYPED).translate(FOLDED)
    text = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    text = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in text).replace("⁄", "/")
    strange = sorted({sign for sign in text if sign.isalpha() and not sign.isascii()})
    if strange:
        raise ValueError(f"the text has letters that are not English: {' '.join(strange[:10])}; write it in English.")
    return text


def _once(text: str) -> str:
    for pattern, say in RULES:
        text = pattern.sub(say, text)
    for sign, word in SIGNS.items():
        text = text.replace(sign, f" {word} ")
    text = re.sub(r"[;:()\[\]{}\"]|(?<=\s)-+(?=\s)", ", ", text.lower())
    text = re.sub(r"[^a-z',.?!\s]", " ", text)
    text = re.sub(r"(?<![a-z])'+|'+(?![a-z])", " ", text)
    text = re.sub(r"\s*([,.?!])[\s,.?!]*", lambda found: f"{_loudest(found[0])} ", text)
    return re.sub(r"\s+", " ", re.sub(r"^[\s,.?!]+", "", text)).strip()


def _loudest(pauses: str) -> str:
    """Of several pauses give the one that says most."""
    return next(sign for sign in "?!.," if sign in pauses)


def _address(found: re.Match[str]) -> str:
    text = re.sub(r"^https?://", "", found[0], flags=re.IGNORECASE).rstrip("/")
    text = re.sub(r"^www\.", "w w w dot ", text, flags=re.IGNORECASE)
    for sign, word in ADDRESSED.items():
        text = text.replace(sign, f" {word} ")
    return re.sub(r"\d", lambda digit: f" {digits(digit[0])} ", text)


def _money(found: re.Match[str]) -> str:
    sign, number, scale = found[1], found[2].replace(",", ""), found[3]
    name, part = CURRENCIES[sign]
    if scale:
        return f"{decimal(number)} {scale} {_many(name, True)}"
    whole, _, cents = number.partition(".")
    if len(cents) not in (0, 2) or not part:
        return f"{decimal(number)} {_many(name, True)}"
    said = f"{decimal(whole)} {_many(name, int(whole or 0) != 1)}" if whole else ""
    if not int(cents or 0):
        return said or f"zero {_many(name, True)}"
    small = f"{cardinal(int(cents))} {_many(part, int(cents) != 1)}"
    return f"{said} and {small}" if int(whole or 0) else small


def _many(name: str, several: bool) -> str:
    if not several or name in ALIKE:
        return "penny" if name == "pence" and not several else name
    if " per " in name or name.startswith("degree"):
        first, rest = name.split(" ", 1) if " " in name else (name, "")
        return f"{first}s {rest}".strip()
    return SEVERAL.get(name, f"{name}s")


def _day(month: int, day: int, year_text: str | None) -> str:
    said = f"{MONTHS[month - 1]} {ordinal(day)}"
    return f"{said}, {year(int(year_text))}" if year_text else said


def _month(name: str) -> int:
    return next(number for number, month in enumerate(MONTHS, 1) if month.startswith(name[:3]))


def _date(found: re.Match[str], month: str, day: str, year_group: str) -> str:
    number, when = int(found[month]), int(found[day])
    if not (1 <= number <= 12 and 1 <= when <= 31):
        return " ".join(decimal(part) for part in re.findall(r"\d+", found[0]))
    return _day(number, when, found[year_group])


def _clock(found: re.Match[str]) -> str:
    hour, minute, half = int(found[1]), int(found[2] or 0), found[3]
    if hour > 24 or minute > 59:
        return f"{cardinal(hour)} to {cardinal(minute)}"
    said = [cardinal(hour)]
    if minute:
        said.append(cardinal(minute) if minute > 9 else f"oh {cardinal(minute)}")
    elif not half:
        said.append("o'clock" if hour <= 12 else "hundred")
    return " ".join([*said, *(f"{half[0].lower()} m".split() if half else [])]) + ("" if not half else " ")


def _measure(found: re.Match[str]) -> str:
    number, unit = found[1], found[2]
    return f"{decimal(number)} {_many(UNITS[unit], number not in ('1', '1.0'))} "


def _fraction(found: re.Match[str]) -> str:
    whole, top, bottom = found[1], int(found[2]), int(found[3])
    if not (0 < top < bottom <= 100):
        return f"{cardinal(top)} over {cardinal(bottom)}" if not whole else f"{whole} {top} over {bottom}"
    said = f"{cardinal(top)} {_many(FRACTIONS.get(bottom) or ordinal(bottom), top > 1)}"
    return f"{cardinal(int(whole))} and {said}" if whole else said


def _decade(found: re.Match[str]) -> str:
    number = int(found[1])
    *before, last = (year(number) if number > 99 else cardinal(number)).split()
    return " ".join([*before, plural(last)])


def _plain_number(found: re.Match[str]) -> str:
    text = found[0]
    if re.fullmatch(r"\d{4}", text) and 1100 <= int(text) <= 2099:
        return f" {year(int(text))} "
    if len(text.replace(",", "").partition(".")[0]) > len(str(LARGEST)):
        return f" {digits(text)} "
    return f" {decimal(text)} "


def _acronym(found: re.Match[str]) -> str:
    word = found[0]
    spelled = word in SPELLED or not re.search("[AEIOUY]", word)
    return " ".join(word) if spelled else word


def _numeral(found: re.Match[str]) -> str:
    number = roman(found[2])
    return found[0] if number is None else f"{found[1]} {cardinal(number)}"


def _rule(pattern: str, say: Callable[[re.Match[str]], str] | str, flags: int = 0) -> Rule:
    return re.compile(pattern, flags), say if callable(say) else lambda found: found.expand(say)


RULES: list[Rule] = [
    _rule(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+", _address),
    _rule(r"\b(?:https?://|www\.)[^\s,;)\"']*[\w/]", _address, re.IGNORECASE),
    _rule(r"\b[\w-]+\.(?:com|org|net|edu|gov|io)\b(?:/[\w/.-]*\w)?", _address, re.IGNORECASE),
    _rule(rf"([$€£¥₹])\s?{_NUMBER}(?:\s{SCALES}\b)?", _money),
    _rule(r"\b(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})\b", lambda found: _date(found, "m", "d", "y")),
    _rule(r"\b(?P<m>\d{1,2})/(?P<d>\d{1,2})/(?P<y>\d{4})\b", lambda found: _date(found, "m", "d", "y")),
    _rule(rf"\b{_MONTH}\s{_DAY}\b{_YEAR}", lambda found: _day(_month(found[1]), int(found[2]), found[3])),
    _rule(rf"\b{_DAY}\s{_MONTH}{_YEAR}", lambda found: _day(_month(found[2]), int(found[1]), found[3])),
    _rule(rf"\b(\d{{1,2}}):(\d{{2}})(?!\d)(?:\s?{_HALF})?", _clock, re.IGNORECASE),
    _rule(rf"\b(\d{{1,2}})()\s?{_HALF}", _clock, re.IGNORECASE),
    _rule(r"\b(\d{3})-(\d{4})\b", lambda found: f"{digits(found[1])}, {digits(found[2])}"),
    _rule(r"(?<=\d)\s?\*\s?(?=\d)", " times "),
    _rule(r"(?<![\w.])-(?=\.?\d)", "minus "),
    _rule(r"(?<=\d)\s?-\s?(?=\d)", " to "),
    _rule(r"\b'?(\d{2}|\d{3}0)s\b", _decade),
    _rule(r"\b(\d+(?:,\d{3})*)(?:st|nd|rd|th)\b", lambda found: ordinal(int(found[1].replace(",", "")))),
    _rule(r"\b(?:(\d+)\s)?(\d{1,3})/(\d{1,3})\b", _fraction),
    _rule(rf"{_NUMBER}\s?({'|'.join(map(re.escape, sorted(UNITS, key=len, reverse=True)))})(?![\w/])", _measure),
    _rule(r"\b[Nn]o\.\s?(?=\d)", "number "),
    _rule(r"\b([A-Z][a-z]+)\s([IVXLC]{2,}|[VX])\b", _numeral),
    _rule(_NUMBER, _plain_number),
    *(_rule(rf"(?<!\w){re.escape(short)}(?!\w)", f"{said} ", re.IGNORECASE) for short, said in DOTTED.items()),
    _rule(r"\b([A-Z][a-z]+)\sSt\.(?!\s[A-Z])", r"\1 street"),
    *(_rule(rf"\b{short}\.", said, re.IGNORECASE) for short, said in ABBREVIATIONS.items()),
    _rule(r"\b([A-Z])\.(?=\s?[A-Za-z])", r"\1 "),
    _rule(r"\b[A-Z]{2,5}\b", _acronym),
]
