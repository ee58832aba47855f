"""Published files: downloaded once, verified, and cached atomically.

The cache folder holds for each file NAME:

    NAME.part, NAME.part.json   an interrupted download, see `transfer`
    NAME.sha256                 checksum pinned at the first download, where none is published
    NAME.verified               size, modification time and checksum at the last full verification: gigabytes are not
                                read again while these are unchanged
    NAME.lock                   one process downloads, the others wait
"""

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ssl_vc.files import replacing
from ssl_vc.hub.transfer import Progress, TransferError, discard, transfer

TRUE = ("1", "true", "yes", "on")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asset:
    """A published file.

    Attributes:
        name: of the file.
        url: its address.
        size: in bytes; None if unknown.
        sha256: published checksum; None if there is none.
        model: name for `ssl-vc models fetch`.
    """

    name: str
    url: str
    size: int | None = None
    sha256: str | None = None
    model: str = "NAME"


class Pin(NamedTuple):
    """A checksum computed here, and its date."""

    sha256: str
    day: str


class State(NamedTuple):
    """State of a file in the cache.

    Attributes:
        path: in the cache.
        size: in bytes; None if it is not downloaded.
        part: bytes of an interrupted download.
        pin: checksum of an earlier download, where none is published.
    """

    path: Path
    size: int | None
    part: int
    pin: Pin | None


def cache_folder() -> Path:
    """Return the folder of downloads: SSL_VC_CACHE, or ssl-vc in the user's cache folder."""
    if chosen := os.environ.get("SSL_VC_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ssl-vc"


def is_offline(offline: bool = False) -> bool:
    """Return whether downloads are off, by argument or by SSL_VC_OFFLINE or HF_HUB_OFFLINE."""
    return offline or any(os.environ.get(name, "").lower() in TRUE for name in ("SSL_VC_OFFLINE", "HF_HUB_OFFLINE"))


def fetch(
    asset: Asset,
    folder: Path | None = None,
    *,
    offline: bool = False,
    force: bool = False,
    thorough: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Return the path of a published file, downloaded first if necessary.

    Args:
        asset: the file.
        folder: of the cache; `cache_folder()` if None.
        offline: download nothing.
        force: download again; the existing file is kept until the new one is verified.
        thorough: compute the checksum even if the file looks unchanged.
        progress: called now and then with the bytes so far and in total.
    """
    folder = cache_folder() if folder is None else folder
    path = folder / asset.name
    with _about(folder):
        if path.is_file() and not force:
            _verify(asset, path, thorough)
            return path
        if is_offline(offline):
            raise TransferError(
                f"{path} is missing, and downloads are off; run `ssl-vc models fetch {asset.model}` online, or put "
                f"{asset.url} into {folder} by hand."
            )
        folder.mkdir(parents=True, exist_ok=True)
        with _exclusive(path):
            if force or not path.is_file():  # another process may have downloaded it meanwhile
                _fetch(asset, path, progress)
    return path


def state(asset: Asset, folder: Path | None = None) -> State:
    """Return the state of a file in the cache, without reading it."""
    path = (cache_folder() if folder is None else folder) / asset.name
    size, part = (file.stat().st_size if file.is_file() else None for file in (path, _beside(path, ".part")))
    return State(path, size, part or 0, None if asset.sha256 else _pin(path))


def _fetch(asset: Asset, path: Path, progress: Progress | None) -> None:
    part = _beside(path, ".part")
    logger.info("downloading %s", asset.url)
    transfer(asset.url, part, asset.size, progress)
    try:
        digest = _checksum(asset, part, path)
    except ValueError as error:
        discard(part)
        raise ValueError(f"the download from {asset.url} is discarded: {error}.") from None
    part.replace(path)
    discard(part)
    _accept(asset, path, digest)


def _verify(asset: Asset, path: Path, thorough: bool) -> None:
    """Raise ValueError for a wrong file; trust one that is unchanged since its last full verification."""
    pin, stamp = _pin(path), _beside(path, ".verified")
    wanted = asset.sha256 or (pin and pin.sha256)
    if wanted and not thorough and stamp.is_file() and stamp.read_text() == _stamp(path, wanted):
        return
    try:
        digest = _checksum(asset, path, path)
    except ValueError as error:
        raise ValueError(f"{error}; `ssl-vc models fetch {asset.model} --force` downloads it again.") from None
    _accept(asset, path, digest)


def _checksum(asset: Asset, file: Path, path: Path) -> str:
    """Return the sha256 of `file`, which is or becomes `path`; raises ValueError for a wrong size or checksum."""
    size, pin = file.stat().st_size, None if asset.sha256 else _pin(path)
    if asset.size not in (None, size):
        raise ValueError(f"{file} has {size} bytes, and the published file {asset.size}")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if asset.sha256 and digest != asset.sha256:
        raise ValueError(f"{file} has the sha256 {digest}, and the published file {asset.sha256}")
    if pin and digest != pin.sha256:
        raise ValueError(
            f"{file} has the sha256 {digest}, and the file of {pin.day} had {pin.sha256} (if the publisher has "
            f"replaced it and you trust the new one, delete {_beside(path, '.sha256')})"
        )
    return digest


def _accept(asset: Asset, path: Path, digest: str) -> None:
    """Record that a file is verified; pin its checksum where none is published."""
    with suppress(OSError):  # a shared cache may be read-only
        if not asset.sha256 and not _pin(path):
            day = time.strftime("%Y-%m-%d")
            note = f"# pinned on {day}, at the first download; none is published"
            _write(_beside(path, ".sha256"), f"{note}\n{digest}  {path.name}\n")  # as `sha256sum -c` reads it
            logger.info("%s: no checksum is published; pinned %s", path.name, digest)
        _write(_beside(path, ".verified"), _stamp(path, digest))


def _pin(path: Path) -> Pin | None:
    beside = _beside(path, ".sha256")
    if not beside.is_file():
        return None
    found = re.match(r"(?:# pinned on ([-\d]+).*\n)?([0-9a-f]{64})\b", beside.read_text(errors="replace"))
    if not found:
        raise ValueError(f"{beside} holds no checksum; delete it, and the next download pins one again.")
    return Pin(found[2], found[1] or "an unknown day")


def _stamp(path: Path, digest: str) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {digest}"


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Wait until no other process downloads this file; the system releases the lock of a killed process."""
    from filelock import FileLock, Timeout

    lock = FileLock(_beside(path, ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("another process is downloading %s; waiting for it", path.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _about(folder: Path) -> Iterator[None]:
    """Turn every file system error into one sentence."""
    try:
        yield
    except TransferError:
        raise
    except OSError as error:
        raise OSError(
            f"the cache folder {folder} cannot be used: {error.strerror or error}; free space, or set the environment "
            "variable SSL_VC_CACHE to another folder."
        ) from error
