"""Options of a conversion: parsing and validation."""

from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

MOST_NEIGHBOURS = 1000  # the mean of more is the mean of the voice

PARSERS: Mapping[str, tuple[Callable[[str], Any], Mapping[str, Any], str]] = {
    "matcher": (str, {}, "a name"),
    "k": (int, {}, "a whole number"),
    "blend": (float, {}, "a number"),
    "pitch": (float, {"match": "match", "keep": "match"}, "match or a number of semitones"),
    "speed": (float, {}, "a number"),
    "loudness": (float, {"keep": None}, "keep or a number of LUFS"),
}
"""For each option a parser of numbers, the words it takes, and a description of valid values."""
OPTIONS = tuple(PARSERS)


def check_options(options: Iterable[str]) -> None:
    """Raise ValueError for unknown options."""
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise ValueError(f"there is no option {unknown[0]!r}; possible are {', '.join(OPTIONS)}.")


def parse_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with text values parsed."""
    values = dict(options)
    for name, value in options.items():
        if not isinstance(value, str):
            continue
        parse, words, wanted = PARSERS[name]
        try:
            values[name] = words[value] if value in words else parse(value)
        except ValueError:
            raise ValueError(f"{name} is {value!r}; give {wanted}.") from None
    return values


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Raise ValueError unless `value` is a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        raise ValueError(f"{name} is {value!r}; possible are numbers from {low:g} to {high:g}.")


def check_pitch(pitch: object, takes_pitch: bool) -> None:
    """Raise ValueError for an invalid pitch option, or one that the vocoder does not support."""
    known = pitch in ("match", "keep") if isinstance(pitch, str) else isinstance(pitch, int | float)
    if not known or isinstance(pitch, bool) or (isinstance(pitch, int | float) and not -48 <= pitch <= 48):
        raise ValueError(f"pitch is {pitch!r}; possible are match, or a number of semitones from -48 to 48.")
    if not isinstance(pitch, str) and not takes_pitch:
        raise ValueError(
            f"pitch is {pitch!r}, but this vocoder takes no pitch: its F0 comes from the matched frames; leave it at "
            "match, or use a vocoder that takes pitch, such as tiny's own or 'world'."
        )
