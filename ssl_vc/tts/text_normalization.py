"""Text normalisation: English text in lower case, with numbers, abbreviations and symbols verbalised.

The result has letters, apostrophes inside words, spaces, and the pauses `, . ? !`. Normalisation is idempotent.
"""

import re
import unicodedata
from collections.abc import Callable

from ssl_vc.tts.numerals import LARGEST, cardinal, decimal, digits, ordinal, plural, roman, year
from ssl_vc.tts.verbalization import (
    ABBREVIATIONS,
    ADDRESS_WORDS,
    CURRENCIES,
    DOTTED,
    FRACTIONS,
    INVARIABLE,
    IRREGULAR_PLURALS,
    MONTHS,
    SPELLED_OUT,
    SYMBOL_WORDS,
    UNITS,
)

MAX_LETTERS = 250  # of a sentence; longer ones are split at a pause, or between words
MAX_PASSES = 4  # no text is known to need more

_MONTH = rf"({'|'.join(MONTHS)}|{'|'.join(month[:3] for month in MONTHS if month != 'May')})\b\.?"
_NUMBER = r"((?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
_AM_PM = r"([ap](?:\.m\.|m\b))"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:,?\s(\d{4})\b)?"
_SCALE = r"(thousand|million|billion|trillion)"
QUOTES = str.maketrans({"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', "…": ". ", "—": ", ", "–": "-", "−": "-"})
FOLDED = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"})
FOLDED |= str.maketrans({"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i"})


class EmptyTextError(ValueError):
    """A text without words."""


Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]


def normalize_text(text: str) -> str:
    """Returns a text normalised, in one line.

    Args:
        text: in English; accents are removed, letters of other scripts are refused.
    """
    plain = _to_ascii(text)
    for _ in range(MAX_PASSES):
        if (again := _apply_rules(plain)) == plain:
            break
        plain = again
    if not re.search("[a-z]", plain):
        raise EmptyTextError(f"there is nothing to say in {text[:40]!r}; give words or numbers.")
    return plain


def split_sentences(text: str, max_letters: int = MAX_LETTERS) -> list[str]:
    """Returns a text's sentences, normalised; an empty line always ends a sentence."""
    sentences = []
    for paragraph in re.split(r"\n\s*\n", text):
        if re.search(r"\w", paragraph):
            sentences += [
                part
                for each in re.findall(r".+?(?:[.?!]+(?= |$)|$)", normalize_text(paragraph))
                for part in _split_long(each, max_letters)
            ]
    if not sentences:
        raise ValueError(f"there is nothing to say in {text[:40]!r}; give words or numbers.")
    return sentences


def _split_long(sentence: str, max_letters: int) -> list[str]:
    """Split a long sentence at its pauses, or else between words."""
    parts, rest = [], sentence.strip()
    while len(rest) > max_letters:
        at = (
            max(rest.rfind(", ", 0, max_letters) + 1, 0) or rest.rfind(" ", 0, max_letters)
            if " " in rest[:max_letters]
            else max_letters
        )
        parts.append(rest[:at].strip())
        rest = rest[at:].strip()
    return [part for part in (*parts, rest) if re.search("[a-z]", part)]


def _to_ascii(text: str) -> str:
    """Returns a text in ASCII letters, without accents."""
    text = unicodedata.normalize("NFKC", text.translate(QUOTES)).translate(QUOTES).translate(FOLDED)
    text = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    text = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in text).replace("⁄", "/")
    strange = sorted({sign for sign in text if sign.isalpha() and not sign.isascii()})
    if strange:
        raise ValueError(f"the text has letters that are not English: {' '.join(strange[:10])}; write it in English.")
    return text


def _apply_rules(text: str) -> str:
    for pattern, verbalize in RULES:
        text = pattern.sub(verbalize, text)
    for sign, word in SYMBOL_WORDS.items():
        text = text.replace(sign, f" {word} ")
    text = re.sub(r"[;:()\[\]{}\"]|(?<=\s)-+(?=\s)", ", ", text.lower())
    text = re.sub(r"[^a-z',.?!\s]", " ", text)
    text = re.sub(r"(?<![a-z])'+|'+(?![a-z])", " ", text)
    text = re.sub(r"\s*([,.?!])[\s,.?!]*", lambda match: f"{_strongest(match[0])} ", text)
    return re.sub(r"\s+", " ", re.sub(r"^[\s,.?!]+", "", text)).strip()


def _strongest(pauses: str) -> str:
    """Returns the strongest of some pauses."""
    return next(sign for sign in "?!.," if sign in pauses)


def _address(match: re.Match[str]) -> str:
    text = re.sub(r"^https?://", "", match[0], flags=re.IGNORECASE).rstrip("/")
    text = re.sub(r"^www\.", "w w w dot ", text, flags=re.IGNORECASE)
    for sign, word in ADDRESS_WORDS.items():
        text = text.replace(sign, f" {word} ")
    return re.sub(r"\d", lambda digit: f" {digits(digit[0])} ", text)


def _money(match: re.Match[str]) -> str:
    sign, number, scale = match[1], match[2].replace(",", ""), match[3]
    name, part = CURRENCIES[sign]
    if scale:
        return f"{decimal(number)} {scale} {_plural(name, True)}"
    whole, _, cents = number.partition(".")
    if len(cents) not in (0, 2) or not part:
        return f"{decimal(number)} {_plural(name, True)}"
    words = f"{decimal(whole)} {_plural(name, int(whole or 0) != 1)}" if whole else ""
    if not int(cents or 0):
        return words or f"zero {_plural(name, True)}"
    small = f"{cardinal(int(cents))} {_plural(part, int(cents) != 1)}"
    return f"{words} and {small}" if int(whole or 0) else small


def _plural(name: str, plural_form: bool) -> str:
    if not plural_form or name in INVARIABLE:
        return "penny" if name == "pence" and not plural_form else name
    if " per " in name or name.startswith("degree"):
        first, rest = name.split(" ", 1) if " " in name else (name, "")
        return f"{first}s {rest}".strip()
    return IRREGULAR_PLURALS.get(name, f"{name}s")


def _day(month: int, day: int, year_text: str | None) -> str:
    words = f"{MONTHS[month - 1]} {ordinal(day)}"
    return f"{words}, {year(int(year_text))}" if year_text else words


def _month(name: str) -> int:
    return next(number for number, month in enumerate(MONTHS, 1) if month.startswith(name[:3]))


def _date(match: re.Match[str], month: str, day: str, year_group: str) -> str:
    month_number, day_number = int(match[month]), int(match[day])
    if not (1 <= month_number <= 12 and 1 <= day_number <= 31):
        return " ".join(decimal(part) for part in re.findall(r"\d+", match[0]))
    return _day(month_number, day_number, match[year_group])


def _clock(match: re.Match[str]) -> str:
    hour, minute, am_pm = int(match[1]), int(match[2] or 0), match[3]
    if hour > 24 or minute > 59:
        return f"{cardinal(hour)} to {cardinal(minute)}"
    words = [cardinal(hour)]
    if minute:
        words.append(cardinal(minute) if minute > 9 else f"oh {cardinal(minute)}")
    elif not am_pm:
        words.append("o'clock" if hour <= 12 else "hundred")
    return " ".join([*words, *(f"{am_pm[0].lower()} m".split() if am_pm else [])]) + (" " if am_pm else "")


def _measure(match: re.Match[str]) -> str:
    number, unit = match[1], match[2]
    return f"{decimal(number)} {_plural(UNITS[unit], number not in ('1', '1.0'))} "


def _fraction(match: re.Match[str]) -> str:
    whole, numerator, denominator = match[1], int(match[2]), int(match[3])
    if not (0 < numerator < denominator <= 100):
        return (
            f"{cardinal(numerator)} over {cardinal(denominator)}"
            if not whole
            else f"{whole} {numerator} over {denominator}"
        )
    words = f"{cardinal(numerator)} {_plural(FRACTIONS.get(denominator) or ordinal(denominator), numerator > 1)}"
    return f"{cardinal(int(whole))} and {words}" if whole else words


def _decade(match: re.Match[str]) -> str:
    number = int(match[1])
    *before, last = (year(number) if number > 99 else cardinal(number)).split()
    return " ".join([*before, plural(last)])


def _plain_number(match: re.Match[str]) -> str:
    text = match[0]
    if re.fullmatch(r"\d{4}", text) and 1100 <= int(text) <= 2099:
        return f" {year(int(text))} "
    if len(text.replace(",", "").partition(".")[0]) > len(str(LARGEST)):
        return f" {digits(text)} "
    return f" {decimal(text)} "


def _acronym(match: re.Match[str]) -> str:
    word = match[0]
    spelled = word in SPELLED_OUT or not re.search("[AEIOUY]", word)
    return " ".join(word) if spelled else word


def _numeral(match: re.Match[str]) -> str:
    number = roman(match[2])
    return match[0] if number is None else f"{match[1]} {cardinal(number)}"


def _rule(pattern: str, verbalize: Callable[[re.Match[str]], str] | str, flags: int = 0) -> Rule:
    return re.compile(pattern, flags), verbalize if callable(verbalize) else lambda match: match.expand(verbalize)


RULES: list[Rule] = [
    _rule(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+", _address),
    _rule(r"\b(?:https?://|www\.)[^\s,;)\"']*[\w/]", _address, re.IGNORECASE),
    _rule(r"\b[\w-]+\.(?:com|org|net|edu|gov|io)\b(?:/[\w/.-]*\w)?", _address, re.IGNORECASE),
    _rule(rf"([$€£¥₹])\s?{_NUMBER}(?:\s{_SCALE}\b)?", _money),
    _rule(r"\b(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})\b", lambda match: _date(match, "m", "d", "y")),
    _rule(r"\b(?P<m>\d{1,2})/(?P<d>\d{1,2})/(?P<y>\d{4})\b", lambda match: _date(match, "m", "d", "y")),
    _rule(rf"\b{_MONTH}\s{_DAY}\b{_YEAR}", lambda match: _day(_month(match[1]), int(match[2]), match[3])),
    _rule(rf"\b{_DAY}\s{_MONTH}{_YEAR}", lambda match: _day(_month(match[2]), int(match[1]), match[3])),
    _rule(rf"\b(\d{{1,2}}):(\d{{2}})(?!\d)(?:\s?{_AM_PM})?", _clock, re.IGNORECASE),
    _rule(rf"\b(\d{{1,2}})()\s?{_AM_PM}", _clock, re.IGNORECASE),
    _rule(r"\b(\d{3})-(\d{4})\b", lambda match: f"{digits(match[1])}, {digits(match[2])}"),
    _rule(r"(?<=\d)\s?\*\s?(?=\d)", " times "),
    _rule(r"(?<![\w.])-(?=\.?\d)", "minus "),
    _rule(r"(?<=\d)\s?-\s?(?=\d)", " to "),
    _rule(r"\b'?(\d{2}|\d{3}0)s\b", _decade),
    _rule(r"\b(\d+(?:,\d{3})*)(?:st|nd|rd|th)\b", lambda match: ordinal(int(match[1].replace(",", "")))),
    _rule(r"\b(?:(\d+)\s)?(\d{1,3})/(\d{1,3})\b", _fraction),
    _rule(rf"{_NUMBER}\s?({'|'.join(map(re.escape, sorted(UNITS, key=len, reverse=True)))})(?![\w/])", _measure),
    _rule(r"\b[Nn]o\.\s?(?=\d)", "number "),
    _rule(r"\b([A-Z][a-z]+)\s([IVXLC]{2,}|[VX])\b", _numeral),
    _rule(_NUMBER, _plain_number),
    *(_rule(rf"(?<!\w){re.escape(short)}(?!\w)", f"{words} ", re.IGNORECASE) for short, words in DOTTED.items()),
    _rule(r"\b([A-Z][a-z]+)\sSt\.(?!\s[A-Z])", r"\1 street"),
    *(_rule(rf"\b{short}\.", words, re.IGNORECASE) for short, words in ABBREVIATIONS.items()),
    _rule(r"\b([A-Z])\.(?=\s?[A-Za-z])", r"\1 "),
    _rule(r"\b[A-Z]{2,5}\b", _acronym),
]
