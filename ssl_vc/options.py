"""The options of a conversion: how their text is read, and what they may be."""

from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

READ: Mapping[str, tuple[Callable[[str], Any], Mapping[str, Any], str]] = {
    "matcher": (str, {}, "a name"),
    "k": (int, {}, "a whole number"),
    "blend": (float, {}, "a number"),
    "pitch": (float, {"keep": "keep", "match": "match"}, "keep, match or a number of semitones"),
    "speed": (float, {}, "a number"),
    "loudness": (float, {"keep": None}, "keep or a number of LUFS"),
}
"""How each option's text is read: by what, which words, and what it should be."""
OPTIONS = tuple(READ)


def check_options(options: Iterable[str]) -> None:
    """Refuse options that a conversion does not have."""
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise ValueError(f"there is no option {unknown[0]!r}; possible are {', '.join(OPTIONS)}.")


def parsed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give options as a conversion takes them, where they may be text."""
    values = dict(options)
    for name, value in options.items():
        if not isinstance(value, str):
            continue
        read, words, wanted = READ[name]
        try:
            values[name] = words[value] if value in words else read(value)
        except ValueError:
            raise ValueError(f"{name} is {value!r}; give {wanted}.") from None
    return values


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Refuse what is no number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        raise ValueError(f"{name} is {value!r}; possible are numbers from {low:g} to {high:g}.")


def check_pitch(pitch: object, takes_pitch: bool) -> None:
    """Refuse what is no setting of the pitch, or what a vocoder cannot do."""
    known = pitch in ("keep", "match") if isinstance(pitch, str) else isinstance(pitch, int | float)
    if not known or isinstance(pitch, bool) or (isinstance(pitch, int | float) and not -48 <= pitch <= 48):
        raise ValueError(f"pitch is {pitch!r}; possible are keep, match, or a number of semitones from -48 to 48.")
    if pitch != "keep" and not takes_pitch:
        raise ValueError(
            f"pitch is {pitch!r}, but this vocoder takes no pitch: it sings what the matched frames say; leave it at "
            "keep, or take a vocoder that does, such as tiny's own or 'world'."
        )
