"""Limits of requests, before gradio sees them: size and duration, uploads by address, and logins that fail."""

import asyncio
import json
import logging
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 256 << 10  # without files
PATIENCE = 30  # seconds for a request, or for the next part of an upload
ADDRESS_BYTES = 256 << 20  # of the uploads from one address
TOTAL_BYTES = 1 << 30  # of all uploads and results
MAX_FAILURES, FAILURE_SECONDS = 5, 60.0  # failed logins from one address, and how long they count
UPLOAD, LOGIN, CALLS = "/gradio_api/upload", "/login", ("/gradio_api/call/", "/gradio_api/queue/", "/gradio_api/run/")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class RequestRefusedError(Exception):
    """A request that is refused: the status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status

    def response(self) -> Response:
        """Returns the answer, which gradio's page shows."""
        return JSONResponse({"detail": str(self), "error": str(self)}, self.status)


class Uploads:
    """The folder of uploads and results; its oldest files are deleted when it is full.

    Args:
        folder: of gradio; what is in it already is the app's own and stays.
        address_bytes: limit of the uploads from one address.
        total_bytes: limit of all files.
    """

    def __init__(self, folder: Path, address_bytes: int = ADDRESS_BYTES, total_bytes: int = TOTAL_BYTES) -> None:
        self.folder, self.address_bytes, self.total_bytes = folder, address_bytes, total_bytes
        self._own = _walk(folder)
        self._own |= {path.parent for path in self._own}
        self._addresses: dict[Path, str] = {}
        self._coming: Counter[str] = Counter()
        self._lock = threading.Lock()

    def begin(self, address: str, size: int) -> None:
        """Note an upload on its way; raises RequestRefusedError if it could not be kept."""
        with self._lock:
            for coming, limit in (
                (self._coming[address], self.address_bytes),
                (self._coming.total(), self.total_bytes),
            ):
                if size > limit:
                    raise RequestRefusedError(
                        413, f"All files of an upload together must not be larger than {limit >> 20} MB."
                    )
                if coming + size > limit:
                    raise RequestRefusedError(429, "Too many uploads at a time; wait for the others to end.")
            self._coming[address] += size

    def end(self, address: str, size: int, paths: list[str]) -> None:
        """Note the files that an upload left, and make room for them."""
        with self._lock:
            self._coming[address] -= size
            self._coming += Counter()  # drops zeros
            self._addresses |= {Path(path): address for path in paths}
        if paths:
            self.make_room()

    def make_room(self) -> None:
        """Delete the oldest files until all limits hold."""
        with self._lock:
            files = self._files()
            self._addresses = {path: owner for path, owner in self._addresses.items() if path in files}
            for address in set(self._addresses.values()):
                mine = {path: size for path, size in files.items() if self._addresses.get(path) == address}
                _delete_oldest(mine, self.address_bytes)
            _delete_oldest(self._files(), self.total_bytes)

    def delete_older(self, seconds: float) -> None:
        """Delete files of that age, also those that gradio does not know, of uploads that broke off."""
        with self._lock:
            for path in [*self._files(), *self.folder.glob("*")]:
                with suppress(OSError):  # a folder that is not empty
                    if path not in self._own and time.time() - path.stat().st_mtime > seconds:
                        path.rmdir() if path.is_dir() else path.unlink()

    def _files(self) -> dict[Path, int]:
        """Returns the sizes of the files that may be deleted, the oldest first."""
        found = []
        for path in _walk(self.folder) - self._own:
            with suppress(FileNotFoundError):
                facts = path.lstat()
                found.append((facts.st_mtime, path, facts.st_size))
        return {path: size for _, path, size in sorted(found)}


def _walk(folder: Path) -> set[Path]:
    """Returns the files below a folder; unlike a glob, while other threads remove folders."""
    return {Path(parent, name) for parent, _, names in os.walk(folder) for name in names}


def _delete_oldest(files: dict[Path, int], limit: int) -> None:
    excess = sum(files.values()) - limit
    for path, size in files.items():
        if excess <= 0:
            return
        path.unlink(missing_ok=True)
        excess -= size


class Logins:
    """Failed logins, by address."""

    def __init__(self) -> None:
        self._attempts: defaultdict[str, list[float]] = defaultdict(list)

    def begin(self, address: str) -> float:
        """Count an attempt; raises RequestRefusedError after too many that failed."""
        now = time.monotonic()
        for each, times in list(self._attempts.items()):
            self._attempts[each] = [past for past in times if now - past < FAILURE_SECONDS]
            if not self._attempts[each]:
                del self._attempts[each]
        if len(self._attempts[address]) >= MAX_FAILURES:
            raise RequestRefusedError(429, f"Too many failed logins; wait {FAILURE_SECONDS:g} seconds.")
        self._attempts[address].append(now)
        return now

    def succeed(self, address: str, attempt: float) -> None:
        """Do not count an attempt as a failure."""
        self._attempts[address].remove(attempt)


class RequestLimits:
    """ASGI middleware."""

    def __init__(self, app: App, uploads: Uploads, logins: Logins) -> None:
        self.app, self.uploads, self.logins = app, uploads, logins

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, address = scope["path"].rstrip("/"), (scope.get("client") or ("",))[0]
        try:
            if scope["method"] in ("GET", "HEAD"):
                await self._read(scope, receive, send)
            elif path == UPLOAD:
                await self._upload(address, scope, receive, send)
            elif path == LOGIN:
                await self._login(address, scope, await _body(receive), send)
            else:
                await self.app(scope, await _body(receive), send)
        except RequestRefusedError as refusal:
            await discard(receive)
            await refusal.response()(scope, receive, send)
        except ClientDisconnect:
            pass

    async def _read(self, scope: Any, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except RuntimeError as error:
            if not isinstance(error.__cause__, HTTPException):
                raise
            await send({"type": "http.response.body"})  # of an unknown event, which gradio has answered already

    async def _upload(self, address: str, scope: Any, receive: Receive, send: Send) -> None:
        length = Request(scope).headers.get("content-length", "")
        if not length.isdecimal():
            raise RequestRefusedError(411, "An upload has to state its length.")
        self.uploads.begin(address, int(length))
        answer = _Answer(send)
        try:
            await self.app(scope, lambda: receive_within(receive, PATIENCE), answer)
        finally:
            paths = json.loads(answer.body) if answer.status == 200 else []
            await asyncio.to_thread(self.uploads.end, address, int(length), paths)

    async def _login(self, address: str, scope: Any, receive: Receive, send: Send) -> None:
        attempt, answer = self.logins.begin(address), _Answer(send)
        await self.app(scope, receive, answer)
        if answer.status < 400:
            self.logins.succeed(address, attempt)


class _Answer:
    """Sends an answer on, and keeps it."""

    def __init__(self, send: Send) -> None:
        self._send, self.status, self.body = send, 500, b""

    async def __call__(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")
        await self._send(message)


async def receive_within(receive: Receive, seconds: float) -> Message:
    """Return the next message of a request; raises RequestRefusedError if it does not come in time."""
    try:
        return await asyncio.wait_for(receive(), seconds)
    except TimeoutError:
        raise RequestRefusedError(408, "The request came too slowly.") from None


async def discard(receive: Receive) -> None:
    """Receive the rest of a request, for a while: who still sends reads no answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while (await receive()).get("more_body", False):
                pass


async def _body(receive: Receive) -> Receive:
    """Read a whole request, to be received again; raises RequestRefusedError if it is too large or too slow."""
    body, more, end = b"", True, time.monotonic() + PATIENCE
    while more:
        message = await receive_within(receive, end - time.monotonic())
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body, more = body + message.get("body", b""), message.get("more_body", False)
        if len(body) > MAX_REQUEST_BYTES:
            raise RequestRefusedError(
                413, f"The request is larger than {MAX_REQUEST_BYTES >> 10} kB; upload sounds as files."
            )
    messages = iter([{"type": "http.request", "body": body}])

    async def receive_again() -> Message:
        return next(messages, None) or await receive()

    return receive_again


async def unknown_name(request: Request, error: Exception) -> Response:
    """Answer a call of a function that the API does not have."""
    if not request.url.path.startswith(CALLS):
        raise error
    log.warning("%s: no such function", request.url.path)
    return RequestRefusedError(404, "The API has no such function; /gradio_api/info lists them.").response()
