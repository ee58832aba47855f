"""Arguments that several commands have: their help, how their text is read, and what is refused."""

from collections.abc import Iterable
from pathlib import Path

import typer

from ssl_vc.files import printable

MODEL = "tiny, knn-vc, untrained, a folder or a hub id; see `ssl-vc models list`."
VOCODER = "world, griffin-lim, or weights: a folder, a file, a hub id. The model's own if left out."


def number_or(text: str, *words: str) -> float | str:
    """Read a number, or one of some words."""
    if text in words:
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor {' or '.join(words)}") from None


def check_matcher(name: str) -> None:
    """Refuse a matcher that there is not, before a model is loaded for nothing."""
    from ssl_vc.match.choice import MATCHERS  # this loads torch, which `ssl-vc --help` need not wait for

    if name not in ("auto", *MATCHERS):
        raise typer.BadParameter(f"there is no matcher {name!r}; possible are auto, {', '.join(MATCHERS)}")


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to overwrite what is read."""
    read = {path.resolve() for path in inputs}
    both = [path for path in outputs if path.resolve() in read]
    if both:
        raise ValueError(f"{both[0]} is both read and written; write elsewhere.")


def refuse_existing(output: Path, force: bool, example: str) -> None:
    """Refuse to write to a folder, to one that is not there, and over what exists."""
    if output.is_dir():
        raise typer.BadParameter(f"{printable(output)} is a folder; name a file, such as {example}")
    if not output.parent.is_dir():
        raise ValueError(f"the folder {printable(output.parent)} does not exist; create it first.")
    if output.exists() and not force:
        raise ValueError(f"{printable(output)} exists; --force overwrites it.")


def name_of(path: Path) -> str:
    """Make a voice's name of a file's."""
    return "".join(letter if letter.isprintable() else "?" for letter in path.stem)
