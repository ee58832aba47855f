"""An example of a service for programs: python -m demos.service --voices FOLDER.

    POST /convert --> admission: a place, a size, a pace --> a worker: read, enrol, convert --> wav, in blocks
                      or 503                                 or 4xx with one sentence

Workers are threads with one copy of the model; torch computes outside of Python's lock.
"""

import argparse
import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, TypeVar

import soundfile
from fastapi import FastAPI, File, Form, HTTPException, UploadFile
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse
from torch import Tensor

import ssl_vc
from demos.limits import (
    ADDRESS_BYTES,
    PATIENCE,
    App,
    Message,
    Receive,
    RequestRefusedError,
    Send,
    discard,
    receive_within,
)
from demos.studio import COMMENT
from demos.uploads import MAX_BYTES, MAX_FILES, MAX_MINUTES, MAX_REFERENCE_MINUTES, sounds
from ssl_vc.options import parse_options
from ssl_vc.process import prepare_inference

Outcome = TypeVar("Outcome")
QUEUE = 16  # requests that wait for a worker; more are refused
RETRY_AFTER = 5  # seconds
MAX_VOICES = 1000  # saved
VOICES_IN_MEMORY = 32
NAME = re.compile(r"[\w-]{1,50}")
BLOCK = 1 << 16  # bytes of a response sent at a time
FAILED = "The service failed; its log says why."


class Service:
    """What the service does, without HTTP's part of it.

    Args:
        converter: used by all workers.
        folder: of the saved voices.
    """

    def __init__(self, converter: ssl_vc.VoiceConverter, folder: Path) -> None:
        self.converter, self.folder = converter, folder
        self._load = lru_cache(VOICES_IN_MEMORY)(lambda path, _: ssl_vc.Voice.load(path))

    def voices(self) -> list[str]:
        """Return the names of the saved voices."""
        return sorted(path.stem for path in self.folder.glob("*.voice"))

    def voice(self, name: str) -> ssl_vc.Voice:
        """Return a saved voice."""
        path = self._path(name)
        if not path.is_file():
            raise HTTPException(404, f"There is no voice {name!r}; GET /voices lists them.")
        return self._load(path, path.stat().st_mtime_ns)

    def enroll(self, name: str, recordings: list[UploadFile]) -> ssl_vc.Voice:
        """Return the voice of recordings."""
        if len(recordings) > MAX_FILES:
            raise HTTPException(413, f"You sent {len(recordings)} files; the limit is {MAX_FILES}.")
        return self.converter.enroll(_read(recordings, MAX_REFERENCE_MINUTES), name)

    def save(self, name: str, recordings: list[UploadFile]) -> ssl_vc.Voice:
        """Enrol recordings and save the voice under a new name."""
        path = self._path(name)
        if path.exists():
            raise HTTPException(409, f"There is a voice {name!r} already; choose another name.")
        if len(self.voices()) >= MAX_VOICES:
            raise HTTPException(409, f"There are {MAX_VOICES} voices already; delete some from the service's folder.")
        voice = self.enroll(name, recordings)
        voice.save(path)
        return voice

    def convert(self, source: UploadFile, voice: str, target: list[UploadFile], options: dict[str, Any]) -> BytesIO:
        """Return a recording in a saved voice or in that of other recordings, as a wav file."""
        if bool(voice) == bool(target):
            raise HTTPException(422, "Give either `target`, recordings of a speaker, or `voice`, a saved voice's name.")
        (wav,) = _read([source], MAX_MINUTES)
        known = self.voice(voice) if voice else self.enroll("target", target)
        converted = self.converter.convert(wav, known, **parse_options(options))
        file = BytesIO()
        with soundfile.SoundFile(file, "w", self.converter.sample_rate, 1, "PCM_16", format="WAV") as sound:
            sound.comment = COMMENT
            sound.write(converted.numpy())
        file.seek(0)
        return file

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise HTTPException(422, "A voice's name has 1 to 50 letters, digits, - and _; choose such a name.")
        return self.folder / f"{name}.voice"


class Admission:
    """ASGI middleware: limits how many POST requests there are at a time, their size and their slowness.

    Args:
        app: what it protects.
        places: requests at a time.
    """

    def __init__(self, app: App, places: int) -> None:
        self.app, self.places, self.taken = app, places, 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
        elif self.taken >= self.places:
            await discard(receive)
            refusal = f"All workers are busy; try again in {RETRY_AFTER} seconds."
            await _refuse(503, refusal, {"Retry-After": str(RETRY_AFTER)})(scope, receive, send)
        else:
            self.taken += 1
            try:
                await self.app(scope, _limited(receive), send)
            finally:
                self.taken -= 1


def _limited(receive: Receive) -> Receive:
    """Receive a request up to the limits of its size and of the pauses in it."""
    size, complete = 0, False

    async def receive_part() -> Message:
        nonlocal size, complete
        if complete:  # what comes next is the client's leaving, perhaps after long work
            return await receive()
        try:
            message = await receive_within(receive, PATIENCE)
        except RequestRefusedError as refusal:
            raise HTTPException(refusal.status, str(refusal)) from None
        size, complete = size + len(message.get("body", b"")), not message.get("more_body", False)
        if size > ADDRESS_BYTES:
            if not complete:
                await discard(receive)
            raise HTTPException(413, f"All files together must not be larger than {ADDRESS_BYTES >> 20} MB.")
        return message

    return receive_part


def _read(recordings: list[UploadFile], minutes: float) -> list[Tensor]:
    for each in recordings:
        if (each.size or 0) > MAX_BYTES:
            raise HTTPException(413, f"A file is larger than {MAX_BYTES >> 20} MB; send a smaller one.")
    return sounds([each.file for each in recordings], minutes)


def _refuse(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence}, status, headers)


async def _explain(_: Any, error: Exception) -> Response:
    """Answer an error with one sentence."""
    if isinstance(error, StarletteHTTPException):
        return _refuse(error.status_code, error.detail)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return _refuse(422, f"The field {first['loc'][-1]!r} is not valid: {first['msg']}.")
    return _refuse(422, str(error)) if isinstance(error, ValueError) else _refuse(500, FAILED)


class Endpoints:
    """What the addresses of the service do.

    Args:
        service: does the work.
        workers: conversions at a time.
    """

    def __init__(self, service: Service, workers: int) -> None:
        self.service, self.workers, self.pool = service, workers, ThreadPoolExecutor(workers)

    async def convert(
        self,
        source: Annotated[UploadFile, File(description="What to convert.")],
        target: Annotated[list[UploadFile] | None, File(description="Recordings of the target speaker.")] = None,
        voice: Annotated[str, Form(description="Name of a saved voice, instead of `target`.")] = "",
        matcher: Annotated[str, Form()] = "",
        k: Annotated[str, Form()] = "",
        blend: Annotated[str, Form()] = "",
        pitch: Annotated[str, Form()] = "",
        speed: Annotated[str, Form()] = "",
        loudness: Annotated[str, Form()] = "",
    ) -> Response:
        """Convert a recording; the options are those of `ssl-vc convert`."""
        given = {"matcher": matcher, "k": k, "blend": blend, "pitch": pitch, "speed": speed, "loudness": loudness}
        options = {name: value for name, value in given.items() if value}
        file = await self._work(partial(self.service.convert, source, voice, target or [], options))
        blocks: Iterator[bytes] = iter(partial(file.read, BLOCK), b"")
        return StreamingResponse(blocks, media_type="audio/wav")

    async def save_voice(
        self,
        name: Annotated[str, Form(description="1 to 50 letters, digits, - and _.")],
        target: Annotated[list[UploadFile], File(description="Recordings of the speaker.")],
    ) -> Response:
        """Enrol a speaker and save the voice."""
        voice = await self._work(partial(self.service.save, name, target))
        return JSONResponse({"name": name, "seconds": round(voice.seconds, 2)}, 201)

    async def voices(self) -> Response:
        """List the saved voices."""
        return JSONResponse({"voices": self.service.voices()})

    async def health(self) -> Response:
        """Tell that the service runs, and what."""
        return JSONResponse({"status": "ok", "model": repr(self.service.converter), "workers": self.workers})

    @asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[None]:
        """Drop what waits when the service is stopped."""
        yield
        self.pool.shutdown(cancel_futures=True)

    async def _work(self, work: Callable[[], Outcome]) -> Outcome:
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)


def create(converter: ssl_vc.VoiceConverter, folder: Path, workers: int = 1, queue: int = QUEUE) -> FastAPI:
    """Build the app.

    Args:
        converter: used by all workers.
        folder: of the saved voices; created if necessary.
        workers: conversions at a time.
        queue: requests that wait for a worker.
    """
    folder.mkdir(parents=True, exist_ok=True)
    endpoints = Endpoints(Service(converter, folder), workers)
    app = FastAPI(title="ssl-vc", version=ssl_vc.__version__, lifespan=endpoints.lifespan)
    app.add_api_route("/convert", endpoints.convert, methods=["POST"], response_class=StreamingResponse)
    app.add_api_route("/voices", endpoints.save_voice, methods=["POST"], status_code=201)
    app.add_api_route("/voices", endpoints.voices, methods=["GET"])
    app.add_api_route("/health", endpoints.health, methods=["GET"])
    app.add_middleware(Admission, places=workers + queue)
    for kind in (StarletteHTTPException, RequestValidationError, ValueError, Exception):
        app.add_exception_handler(kind, _explain)
    return app


def main() -> None:
    """Run the service until it is stopped."""
    import uvicorn  # which only the command needs

    parser = argparse.ArgumentParser(description="Serve voice conversion to programs.")
    parser.add_argument("--host", default="127.0.0.1", help="where it listens; 0.0.0.0 lets other machines in")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1, help="conversions at a time")
    parser.add_argument("--voices", type=Path, default=Path("voices"), help="folder of the saved voices")
    parser.add_argument("--model", default="tiny", help="see `ssl-vc convert --help`")
    given = parser.parse_args()
    if given.workers < 1:
        parser.error("--workers is at least 1")
    prepare_inference(max((os.cpu_count() or 1) // given.workers, 1))
    converter = ssl_vc.VoiceConverter.from_pretrained(given.model)
    uvicorn.run(create(converter, given.voices, given.workers), host=given.host, port=given.port)


if __name__ == "__main__":
    main()
