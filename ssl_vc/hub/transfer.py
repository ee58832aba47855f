"""Resumable downloads: each attempt continues where the last one was interrupted.

    PART        the bytes so far
    PART.json   the version of the file: URL, validator (ETag or date), length

A part is resumed only if the server confirms by the validator (If-Range) that the file is unchanged.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ssl_vc.files import replacing

PAUSES = (1.0, 3.0, 9.0, 27.0)  # seconds before the next attempt; restarted after progress
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 2**16
TRANSIENT = (408, 425, 429)  # and 5xx

Progress: TypeAlias = Callable[[int, int], None]

logger = logging.getLogger(__name__)


class TransferError(OSError):
    """A failed download; the message is one sentence with the reason and the remedy."""


def transfer(url: str, part: Path, size: int | None = None, progress: Progress | None = None) -> None:
    """Download a file to `part`, whose folder exists, and which no other process writes.

    Args:
        url: an https address (or http on localhost).
        part: an existing one is resumed; it is kept after a failure.
        size: expected size; the server's if None.
        progress: called now and then with the bytes so far and in total.
    """
    _check_address(url)
    failures, furthest = 0, 0
    while True:
        try:
            return _request(url, part, size, progress)
        except _TransientError as error:
            reason, got = str(error), part.stat().st_size if part.is_file() else 0
            failures, furthest = (1, got) if got > furthest else (failures + 1, furthest)
            if error.stale:
                discard(part)
        if failures > len(PAUSES):
            raise TransferError(
                f"{url} cannot be downloaded: {reason}; check the network and try again, which resumes the download."
            )
        pause = PAUSES[failures - 1]
        logger.info("%s: %s; retrying in %g s", url, reason, pause)
        time.sleep(pause)


def discard(part: Path) -> None:
    """Remove a part and its record."""
    for path in (_record(part), part):
        path.unlink(missing_ok=True)


class _TransientError(Exception):
    """A transient failure; `stale`: the part cannot be resumed."""

    def __init__(self, reason: object, stale: bool = False) -> None:
        super().__init__(str(reason) or type(reason).__name__)
        self.stale = stale


class _Version(NamedTuple):
    """Version of a file that a part belongs to."""

    url: str
    validator: str
    total: int


def _request(url: str, part: Path, size: int | None, progress: Progress | None) -> None:
    """Request the missing bytes once."""
    version = _version_of(url, part, size)
    start = part.stat().st_size if version else 0
    if version and start == version.total:  # killed just after its last byte
        return
    headers = {"User-Agent": "ssl-vc", "Accept-Encoding": "identity"}
    if version:
        headers |= {"Range": f"bytes={start}-", "If-Range": version.validator}
    with _answer(url, headers) as answer:
        validator = _validator(answer.headers)
        if answer.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            same = version and validator in ("", version.validator)
            if not (version and same and span and (int(span[1]), int(span[2])) == (start, version.total)):
                raise _TransientError("the server continues with another file", stale=True)
            total = version.total
        else:
            start, total = 0, _length(url, answer, size)
            discard(part)
            if validator:
                with replacing(_record(part)) as temporary:
                    temporary.write_text(json.dumps(_Version(url, validator, total)._asdict()))
        _copy(answer, part, start, total, progress)


def _version_of(url: str, part: Path, size: int | None) -> _Version | None:
    """Return the version of a file that a part belongs to; None if it cannot be resumed."""
    try:
        version = _Version(**json.loads(_record(part).read_text()))
        fits = version.url == url and size in (None, version.total)
        return version if fits and part.stat().st_size else None
    except (OSError, ValueError, TypeError):
        return None


def _record(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _validator(headers: HTTPMessage) -> str:
    """Return the server's validator of this version, fit for If-Range; "" if there is none."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _length(url: str, answer: HTTPResponse, size: int | None) -> int:
    text = answer.headers.get("Content-Length", "")
    announced = int(text) if text.isdecimal() else size
    if announced is None:
        raise TransferError(
            f"{url} cannot be downloaded: the server does not announce the length, so completeness cannot be checked; "
            "download it by hand."
        )
    if size not in (None, announced):
        raise TransferError(
            f"{url} is not the published file: the server announces {announced} bytes instead of {size}; open the "
            "address in a browser, since some networks require a login first."
        )
    return announced


def _copy(answer: HTTPResponse, part: Path, start: int, total: int, progress: Progress | None) -> None:
    with part.open("ab") as file:
        while True:
            try:
                block = answer.read(BLOCK)
            except (OSError, HTTPException) as error:  # of the network; errors of the disk come from `write`
                raise _TransientError(error) from None
            if not block:
                break
            file.write(block)
            start += len(block)
            if progress:
                progress(start, total)
    if start != total:
        raise _TransientError(f"interrupted at {start} of {total} bytes", stale=start > total)


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[HTTPResponse]:
    """Send a request; raises _TransientError for transient failures, and TransferError for permanent ones."""
    try:
        answer = build_opener(_Redirects).open(Request(url, headers=headers), timeout=TIMEOUT)
    except TransferError:
        raise
    except HTTPError as error:
        error.close()
        reason = f"the server answers {error.code} ({error.reason})"
        if error.code == 416 or error.code in TRANSIENT or error.code >= 500:
            raise _TransientError(reason, stale=error.code == 416) from None
        raise TransferError(f"{url} cannot be downloaded: {reason}; open the address in a browser.") from None
    except (OSError, HTTPException) as error:
        raise _TransientError(getattr(error, "reason", error)) from None
    with answer:
        yield answer


class _Redirects(HTTPRedirectHandler):
    """Follow redirects only to addresses as safe as the first."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """Refuse files, other protocols, and downgrades from https."""
        try:
            _check_address(newurl, urlsplit(req.full_url).scheme)
        except TransferError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(url: str, previous_scheme: str = "http") -> None:
    parts = urlsplit(url)
    here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == previous_scheme == "http" and here):
        raise TransferError(f"{url} is refused: only https addresses are allowed.")
