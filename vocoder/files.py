"""Files that users receive from others, read within bounds: pipes and devices, which may never end, are refused."""

import json
import math
import stat
from pathlib import Path
from typing import Any

LARGEST_TEXT = 2**28  # bytes


def require_file(path: str | Path, largest: float = math.inf) -> Path:
    """Return the path of a regular file; raise ValueError if it is anything else, or has more than `largest` bytes."""
    path = Path(path)
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise ValueError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise ValueError(f"{path} is {kind}; give a regular file.")
    if found.st_size > largest:
        raise ValueError(f"{path} has {found.st_size} bytes, and such a file at most {largest:.0f}; check the path.")
    return path


def read_text(path: str | Path, largest: int = LARGEST_TEXT, encoding: str = "utf-8") -> str:
    """Return the text of a file; raise ValueError if it is not regular, too large, unreadable, or not text."""
    try:
        return require_file(path, largest).read_text(encoding=encoding)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}).") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8.") from None


def read_json(path: str | Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise ValueError for anything else."""
    text = read_text(path)
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is broken ({error}).") from None
    except RecursionError:
        raise ValueError(f"{path} is broken (it is nested too deeply).") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}; it must be an object.")
    return values
