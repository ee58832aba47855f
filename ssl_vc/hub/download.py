"""Published files, fetched once, verified, and kept: whole, or not there at all.

In the cache folder lie, beside each file NAME:

    NAME.part, NAME.part.json   a fetch that broke off, see `transfer`
    NAME.sha256                 its checksum, pinned at the first fetch, where the publisher gives none
    NAME.verified               size, time of change and checksum at the last full check: a file of gigabytes is not
                                read again as long as they stay
    NAME.lock                   one process fetches, the others wait
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

YES = ("1", "true", "yes", "on")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asset:
    """A file that somebody published.

    Attributes:
        name: what it is called, there and here.
        url: where it is.
        size: in bytes; None if it is not known.
        sha256: its checksum; None if the publisher gives none.
        model: the model that it belongs to, as `ssl-vc models fetch` takes it.
    """

    name: str
    url: str
    size: int | None = None
    sha256: str | None = None
    model: str = "NAME"


class Pin(NamedTuple):
    """A checksum that was taken here, and the day."""

    sha256: str
    day: str


class State(NamedTuple):
    """What is here of a file, as far as a look into the folder tells.

    Attributes:
        path: where it is, or will be.
        size: in bytes; None if it is not here.
        part: bytes of a fetch that broke off.
        pin: its checksum, where the publisher gives none and it was here before.
    """

    path: Path
    size: int | None
    part: int
    pin: Pin | None


def cache_folder() -> Path:
    """Give the folder for fetched files: SSL_VC_CACHE, or ssl-vc in the user's cache folder."""
    if own := os.environ.get("SSL_VC_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ssl-vc"


def is_offline(offline: bool = False) -> bool:
    """Tell whether the network must not be touched: by wish, or by SSL_VC_OFFLINE or HF_HUB_OFFLINE."""
    return offline or any(os.environ.get(name, "").lower() in YES for name in ("SSL_VC_OFFLINE", "HF_HUB_OFFLINE"))


def fetch(
    asset: Asset,
    folder: Path | None = None,
    *,
    offline: bool = False,
    force: bool = False,
    thorough: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Give the path of a published file; fetch it if it is not here.

    Args:
        asset: which.
        folder: where it is kept; `cache_folder()` if None.
        offline: never touch the network.
        force: fetch it anew; what is here stays until the new one has proved right.
        thorough: read the whole file for its checksum, even if it looks as it did the last time.
        progress: is told now and then how many bytes there are, of how many.
    """
    folder = cache_folder() if folder is None else folder
    path = folder / asset.name
    with _about(folder):
        if path.is_file() and not force:
            _verify(asset, path, thorough)
            return path
        if is_offline(offline):
            raise TransferError(
                f"{path} is not fetched, for the network is not to be touched; run `ssl-vc models fetch {asset.model}` "
                f"where it may be, or put {asset.url} into {folder} by hand."
            )
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if force or not path.is_file():  # another process may have been here first
                _fetch(asset, path, progress)
    return path


def state(asset: Asset, folder: Path | None = None) -> State:
    """Tell what is here of a file, without reading it."""
    path = (cache_folder() if folder is None else folder) / asset.name
    size, part = (file.stat().st_size if file.is_file() else None for file in (path, _beside(path, ".part")))
    return State(path, size, part or 0, None if asset.sha256 else _pin(path))


def _fetch(asset: Asset, path: Path, progress: Progress | None) -> None:
    part = _beside(path, ".part")
    logger.info("fetching %s", asset.url)
    transfer(asset.url, part, asset.size, progress)
    try:
        digest = _checksum(asset, part, path)
    except ValueError as error:
        discard(part)
        raise ValueError(f"what came from {asset.url} is thrown away: {error}.") from None
    part.replace(path)
    discard(part)
    _accept(asset, path, digest)


def _verify(asset: Asset, path: Path, thorough: bool) -> None:
    """Refuse a file that is not the right one; take on trust one that looks as it did at its last full check."""
    pin, stamp = _pin(path), _beside(path, ".verified")
    wanted = asset.sha256 or (pin and pin.sha256)
    if wanted and not thorough and stamp.is_file() and stamp.read_text() == _stamp(path, wanted):
        return
    try:
        digest = _checksum(asset, path, path)
    except ValueError as error:
        raise ValueError(f"{error}; `ssl-vc models fetch {asset.model} --force` fetches it anew.") from None
    _accept(asset, path, digest)


def _checksum(asset: Asset, file: Path, path: Path) -> str:
    """Give the sha256 of `file`, which is or will be `path`; refuse what differs from what is known of it."""
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
    """Remember that a file was right; where the publisher gives no checksum, this one counts from now on."""
    with suppress(OSError):  # a cache that somebody else keeps may be read-only
        if not asset.sha256 and not _pin(path):
            day = time.strftime("%Y-%m-%d")
            note = f"# pinned on {day}, at the first fetch; the publisher gives none"
            _write(_beside(path, ".sha256"), f"{note}\n{digest}  {path.name}\n")  # as `sha256sum -c` reads it
            logger.info("%s: the publisher gives no checksum; from now on it is %s", path.name, digest)
        _write(_beside(path, ".verified"), _stamp(path, digest))


def _pin(path: Path) -> Pin | None:
    beside = _beside(path, ".sha256")
    if not beside.is_file():
        return None
    found = re.match(r"(?:# pinned on ([-\d]+).*\n)?([0-9a-f]{64})\b", beside.read_text(errors="replace"))
    if not found:
        raise ValueError(f"{beside} holds no checksum; delete it, and the next fetch pins one again.")
    return Pin(found[2], found[1] or "an unknown day")


def _stamp(path: Path, digest: str) -> str:
    facts = path.stat()
    return f"{facts.st_size} {facts.st_mtime_ns} {digest}"


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process fetches this file; the system unlocks for one that was killed."""
    from filelock import FileLock, Timeout

    lock = FileLock(_beside(path, ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("another process is fetching %s; waiting for it", path.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _about(folder: Path) -> Iterator[None]:
    """Make one sentence of every error of the disk."""
    try:
        yield
    except TransferError:
        raise
    except OSError as error:
        raise OSError(
            f"the cache folder {folder} cannot be used: {error.strerror or error}; make room, or name another folder "
            "in the environment variable SSL_VC_CACHE."
        ) from error
