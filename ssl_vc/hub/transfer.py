"""An address's bytes into a file, by any number of tries that each go on where the last one broke off.

    PART        what has come so far
    PART.json   which version of which file it is: address, validator (ETag or date), length

A part is continued only if the server says, by that validator (If-Range), that the file is still the same.
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

PAUSES = (1.0, 3.0, 9.0, 27.0)  # seconds before the next try; from the first again when a try has brought something
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 2**16
WORTH_ANOTHER_TRY = (408, 425, 429)  # and 5xx

Progress: TypeAlias = Callable[[int, int], None]

logger = logging.getLogger(__name__)


class TransferError(OSError):
    """A file that could not be fetched; the message is one sentence that says why and what to do."""


def transfer(url: str, part: Path, size: int | None = None, progress: Progress | None = None) -> None:
    """Fetch a file into `part`, whose folder exists; nobody else may write it meanwhile.

    Args:
        url: an https address (or http on this very machine).
        part: what is there already is continued; after a failure it stays, for the next time.
        size: how long the file must be; what the server announces if None.
        progress: is told now and then how many bytes there are, of how many.
    """
    _check_address(url)
    failures, furthest = 0, 0
    while True:
        try:
            return _request(url, part, size, progress)
        except _BrokenOffError as error:
            reason, got = str(error), part.stat().st_size if part.is_file() else 0
            failures, furthest = (1, got) if got > furthest else (failures + 1, furthest)
            if error.stale:
                discard(part)
        if failures > len(PAUSES):
            raise TransferError(
                f"{url} cannot be fetched: {reason}; check the network and try again, which goes on where it broke off."
            )
        pause = PAUSES[failures - 1]
        logger.info("%s: %s; the next try is in %g s", url, reason, pause)
        time.sleep(pause)


def discard(part: Path) -> None:
    """Remove a part and what is known of it."""
    for path in (_record(part), part):
        path.unlink(missing_ok=True)


class _BrokenOffError(Exception):
    """A try that failed where the next may not; `stale`: what has come so far cannot be continued."""

    def __init__(self, reason: object, stale: bool = False) -> None:
        super().__init__(str(reason) or type(reason).__name__)
        self.stale = stale


class _Version(NamedTuple):
    """Which version of a file a part belongs to."""

    url: str
    validator: str
    total: int


def _request(url: str, part: Path, size: int | None, progress: Progress | None) -> None:
    """Ask once for what is missing."""
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
            given = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            same = version and validator in ("", version.validator)
            if not (version and same and given and (int(given[1]), int(given[2])) == (start, version.total)):
                raise _BrokenOffError("the server goes on with something else", stale=True)
            total = version.total
        else:
            start, total = 0, _length(url, answer, size)
            discard(part)
            if validator:
                with replacing(_record(part)) as temporary:
                    temporary.write_text(json.dumps(_Version(url, validator, total)._asdict()))
        _copy(answer, part, start, total, progress)


def _version_of(url: str, part: Path, size: int | None) -> _Version | None:
    """Tell which version of a file a part belongs to; None if it cannot be continued."""
    try:
        version = _Version(**json.loads(_record(part).read_text()))
        fits = version.url == url and size in (None, version.total)
        return version if fits and part.stat().st_size else None
    except (OSError, ValueError, TypeError):
        return None


def _record(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _validator(headers: HTTPMessage) -> str:
    """Give what the server knows this version of a file by, fit for If-Range; nothing if it says nothing."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _length(url: str, answer: HTTPResponse, size: int | None) -> int:
    text = answer.headers.get("Content-Length", "")
    announced = int(text) if text.isdecimal() else size
    if announced is None:
        raise TransferError(
            f"{url} cannot be fetched: the server does not say how long the file is, so nobody could tell whether it "
            "is whole; fetch it by hand."
        )
    if size not in (None, announced):
        raise TransferError(
            f"{url} is not what was published: the server announces {announced} bytes where {size} are right; open "
            "the address in a browser, for some networks want you to log in first."
        )
    return announced


def _copy(answer: HTTPResponse, part: Path, start: int, total: int, progress: Progress | None) -> None:
    with part.open("ab") as file:
        while True:
            try:
                block = answer.read(BLOCK)
            except (OSError, HTTPException) as error:  # of the network; what the disk says comes from `write`
                raise _BrokenOffError(error) from None
            if not block:
                break
            file.write(block)
            start += len(block)
            if progress:
                progress(start, total)
    if start != total:
        raise _BrokenOffError(f"it broke off at {start} of {total} bytes", stale=start > total)


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[HTTPResponse]:
    """Ask a server, and tell what another try may mend from what it will not."""
    try:
        answer = build_opener(_Redirects).open(Request(url, headers=headers), timeout=TIMEOUT)
    except TransferError:
        raise
    except HTTPError as error:
        error.close()
        reason = f"the server answers {error.code} ({error.reason})"
        if error.code == 416 or error.code in WORTH_ANOTHER_TRY or error.code >= 500:
            raise _BrokenOffError(reason, stale=error.code == 416) from None
        raise TransferError(f"{url} cannot be fetched: {reason}; open the address in a browser.") from None
    except (OSError, HTTPException) as error:
        raise _BrokenOffError(getattr(error, "reason", error)) from None
    with answer:
        yield answer


class _Redirects(HTTPRedirectHandler):
    """Follows redirections to addresses that are as safe as the first."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """Refuse files, other protocols, and to leave https."""
        try:
            _check_address(newurl, urlsplit(req.full_url).scheme)
        except TransferError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(url: str, comes_from: str = "http") -> None:
    parts = urlsplit(url)
    here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == comes_from == "http" and here):
        raise TransferError(f"{url} is not fetched: only https addresses are.")
