"""Atomic files, files whose errors are kept, locked folders and safe file names."""

import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from vocoder.files import read_json as read_json
from vocoder.files import read_text as read_text
from vocoder.files import require_file as require_file

FORBIDDEN = '<>:"|?*'  # in file names on Windows
LOCK = ".lock"  # in a folder that a command is working in

PART = re.compile(r"\.[0-9a-f]{16}\.part(\..*)?")  # a temporary file of `replacing`

_held: set[IO[bytes]] = set()  # lock files of this process


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary file in the same folder; rename it to `path` if the block succeeds, else remove it.

    It keeps the suffix of `path`, from which some writers choose the format. Write to it, do not put another file in
    its place: it is locked, and what is not locked was left by a killed process, and is removed by the next one that
    writes to the folder.
    """
    path = Path(path)
    _clear_parts(path.absolute().parent)
    with ExitStack() as stack:
        temporary = _create_part(path, stack)
        yield temporary
        temporary.replace(path)


def _create_part(path: Path, stack: ExitStack) -> Path:
    """Create an empty file in the folder of `path`, locked until the stack is left, and removed then."""
    while True:
        part = path.with_name(f".{secrets.token_hex(8)}.part{path.suffix}")
        stack.callback(part.unlink, missing_ok=True)
        file = part.open("xb")
        if sys.platform == "win32":  # a locked file could be neither written nor renamed
            file.close()
            return part
        try:
            ours = _lock(file) and part.exists()  # else it was taken for a leftover before it was locked
        except OSError:  # a file system without locks, where nothing is taken for a leftover
            ours = True
        if ours:
            stack.enter_context(file)
            _held.add(file)
            stack.callback(_held.discard, file)
            return part
        file.close()


@lru_cache(maxsize=1024)  # folders that need not be searched again
def _clear_parts(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder."""
    with suppress(OSError):
        for path in folder.iterdir() if sys.platform != "win32" else ():
            if PART.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                with suppress(OSError), path.open("r+b") as file:
                    if _lock(file):
                        path.unlink()


@contextmanager
def locked(file: Path, folder: Path, holder: str = "another process is working") -> Iterator[None]:
    """Hold a lock on a folder; the system releases it when the process ends, however it does.

    Args:
        file: to lock; it is removed afterwards, and so is its own folder if it was made for it and is empty.
        folder: which is locked, for messages.
        holder: who else may have locked it, for messages.

    Raises:
        ValueError: somebody else has locked the folder.
        OSError: the file cannot be written.
    """
    new = not file.parent.exists()
    try:
        lock = _open_locked(file)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{folder} cannot hold outputs: {reason}; check the folder, its permissions and disk.") from error
    if lock is None:
        raise ValueError(f"{holder} in {folder}; wait for it, or use another folder.")
    with lock:
        _held.add(lock)
        try:
            yield
        finally:
            if lock in _held:  # a forked process does not have it
                _held.remove(lock)
                with suppress(OSError):  # Windows does not remove open files; another run may have started
                    file.unlink()
                    if new:
                        file.parent.rmdir()


def _open_locked(path: Path) -> IO[bytes] | None:
    """Returns the locked file, None if somebody else has locked it."""
    while True:
        with suppress(FileExistsError):
            path.parent.mkdir(parents=True)
        with suppress(FileNotFoundError):  # a run that is ending may be removing the file or the folder
            file = path.open("ab")
            if not _lock(file):
                file.close()
                return None
            with ExitStack() as stack:
                stack.enter_context(file)
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    stack.pop_all()
                    return file


def _lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _close_inherited() -> None:
    """Close the lock files in a forked process: a data loader's worker must not keep the lock of a killed training."""
    for file in _held:
        file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_close_inherited)


class CheckedFile:
    """A file for a library whose callbacks lose exceptions: the first error of writing is kept, and raised on leaving.

    Until then the library is told that all is well, so that no error of its own hides the reason. Unbuffered: what is
    written has reached the system, and nothing can fail later without being noticed.

    Args:
        path: to open.
        mode: "w" makes it empty, "r+" changes it.
    """

    def __init__(self, path: str | os.PathLike[str], mode: str = "w") -> None:
        self._file = FileIO(os.fspath(path), mode)
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise the first error of writing, if there was one."""
        if self._error is not None:
            raise self._error

    def write(self, data: bytes) -> int:
        """Write all of the data, and return its length even if that fails."""
        rest = memoryview(data)
        try:
            while rest and self._error is None:
                rest = rest[self._file.write(rest) :]  # a full disk takes a part, and refuses the next
        except OSError as error:
            self._error = error
        return len(data)

    def readinto(self, buffer: memoryview) -> int:
        """Read into the buffer, and return the number of bytes."""
        return self._file.readinto(buffer) or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset, and return it from the start."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the offset from the start."""
        return self._file.tell()


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
