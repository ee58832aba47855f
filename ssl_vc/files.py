"""Atomic files and safe file names."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORBIDDEN = '<>:"|?*'  # in file names on Windows


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it over `path` if the block succeeds, remove it if it fails.

    The temporary path keeps the suffix of `path`, from which some writers choose the format.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path as valid text, whatever its bytes."""
    return os.fsencode(path).decode(errors="replace")


def safe_filename(name: str) -> str:
    """Return a name that is a valid file name on every system."""
    return "".join("-" if letter in FORBIDDEN + "/\\" or not letter.isprintable() else letter for letter in name)


def expand_variables(text: str) -> str:
    """Return a configured path with `${oc.env:NAME}` and `${oc.env:NAME,DEFAULT}` replaced, as OmegaConf does it.

    Raises:
        ValueError: a variable without a default is not set.
    """
    return re.sub(r"\$\{oc\.env:(\w+)(?:,([^}]*))?\}", lambda found: _variable(found[1], found[2]), text)


def _variable(name: str, default: str | None) -> str:
    value = os.environ.get(name, default)
    if value is None:
        raise ValueError(
            f"the environment variable {name} is not set; set it to a folder or table of clips, or give one."
        )
    return value
