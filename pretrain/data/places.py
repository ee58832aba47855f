"""Where shards are: local paths and https addresses, opened here so that no address can start a command.

webdataset would run what follows `pipe:` in a shell, in a configuration and in the name of a file in a folder too.
"""

import re
import time
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

Place: TypeAlias = Path | str  # a local file, or an address
Source: TypeAlias = str | Path | Sequence[str | Path]

PIPE = "pipe:"
TIMEOUT = 30.0  # seconds without a byte
PAUSES = (1.0, 3.0, 9.0, 0.0)  # seconds after each failed attempt to open an address
TRANSIENT = (408, 425, 429)  # and 5xx


class Stream(Protocol):
    """What tarfile needs of a file that it reads in order."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""

    def close(self) -> None:
        """Close it."""


def find_shards(source: Source) -> list[Place]:
    """Return the shards of a folder, of a pattern with braces, or of a list of paths, addresses and patterns.

    Raises:
        ValueError: there are none, or an address is neither https nor, as an item of a list, `pipe:`.
    """
    found: Sequence[Place]
    if isinstance(source, str | Path):
        folder = Path(source)
        found = sorted(folder.glob("*.tar")) if folder.is_dir() else [_place(each) for each in _expanded(source)]
    else:
        found = [
            each if isinstance(each, str) and each.startswith(PIPE) else _place(each)
            for item in source
            for each in _expanded(item)
        ]
    if not found:
        raise ValueError(f"there are no shards at {source}; give a folder of .tar files, or their URLs.")
    return list(found)


def open_shard(place: Place) -> Stream:
    """Open a shard to be read in order.

    Raises:
        OSError: it cannot be opened.
    """
    if isinstance(place, Path):
        return place.open("rb")
    if place.startswith(PIPE):
        from webdataset.gopen import gopen_pipe

        pipe: Stream = gopen_pipe(place)
        return pipe
    opener = build_opener(_SafeRedirects)
    for pause in PAUSES:
        try:
            return _Download(opener.open(place, timeout=TIMEOUT))
        except (OSError, HTTPException) as error:
            failure = error if isinstance(error, OSError) else OSError(f"the server does not speak HTTP: {error!r}")
            if isinstance(error, HTTPError):
                error.close()
                if error.code not in TRANSIENT and error.code < 500:
                    break
            time.sleep(pause)
    raise failure


def _expanded(item: Place) -> list[Place]:
    """Return what a pattern with braces stands for; a file that exists is itself, and a path stands for paths."""
    from webdataset.shardlists import expand_urls

    if _is_file(item):
        return [Path(item)]
    return [Path(each) if isinstance(item, Path) else each for each in expand_urls(str(item))]


def _place(item: Place) -> Place:
    """Return a local file as a path, and an address as a text; refuse every other address."""
    # a scheme of one letter is a Windows drive
    if isinstance(item, Path) or _is_file(item) or not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", item):
        return Path(item)
    if not _is_safe(item):
        raise ValueError(f"{item!r} is refused; shards are a folder of .tar files, paths, or https addresses.")
    return item


def _is_file(item: Place) -> bool:
    try:
        return Path(item).is_file()
    except OSError:  # too long for a name, such as a pattern or a command
        return False


def _is_safe(address: str) -> bool:
    parts = urlsplit(address)
    here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return parts.scheme == "https" or (parts.scheme == "http" and here)


class _SafeRedirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """Refuse to be sent to anything but what a user could name."""
        if not _is_safe(newurl):
            raise HTTPError(newurl, code, "this address is refused; shards are read by https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Download:
    """A response that tells its end from an interruption, which http.client does not."""

    def __init__(self, response: HTTPResponse) -> None:
        self._response, self.close = response, response.close

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, at most `size`."""
        try:
            data = self._response.read(size)
        except HTTPException as error:
            raise OSError(f"the download was interrupted: {error!r}") from error
        if size and not data and self._response.length:
            raise OSError(f"the download was interrupted, {self._response.length} bytes before its end")
        return data
