"""Files that are either whole or not there."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORBIDDEN = '<>:"|?*'  # in names of files, on Windows


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it over `path` if the block succeeds, remove it if it fails.

    The temporary name ends like `path`, so that writers which choose the format by suffix choose the same one.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def printable(path: str | os.PathLike[str]) -> str:
    """Give a path as text that any file and terminal takes."""
    return os.fsencode(path).decode(errors="replace")


def harmless(name: str) -> str:
    """Make a name of which every system can make a file."""
    return "".join("-" if letter in FORBIDDEN + "/\\" or not letter.isprintable() else letter for letter in name)
