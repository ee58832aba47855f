"""Uploads: only files that were uploaded here are opened, and none that is too large or too long."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gradio.utils import get_upload_folder
from torch import Tensor

import ssl_vc
from ssl_vc.audio import Source, TooLongError
from ssl_vc.files import LOCK, locked

SAMPLES = Path(__file__).parent / "samples"
MAX_BYTES = 50 << 20  # of a file
MAX_MINUTES = 10  # of a source
MAX_REFERENCE_MINUTES = 20  # of all recordings of a voice
MAX_FILES = 50  # at a time
MAX_CHARACTERS = 3000  # of a text

PREFIX = "ssl-vc-demo-"  # of a demo's folder

Upload = str | list[str] | None


@contextmanager
def demo_folder() -> Iterator[Path]:
    """Yield a folder for what users send; it is removed at the end, or by the next demo if this one is killed."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        with locked(folder / LOCK, folder):
            for other in folder.parent.glob(f"{PREFIX}*"):
                _remove_if_abandoned(other, folder.stat().st_uid)
            yield folder


def _remove_if_abandoned(folder: Path, owner: int) -> None:
    """Remove a demo's folder, unless a process holds its lock or it is somebody else's."""
    with suppress(OSError, ValueError):
        if folder.lstat().st_uid == owner and not folder.is_symlink() and (folder / LOCK).is_file():
            with locked(folder / LOCK, folder):
                shutil.rmtree(folder)


def uploaded(upload: Upload, what: str) -> list[Path]:
    """Returns the paths of uploaded files.

    Raises:
        ValueError: there are none, too many, or too large ones, or one was not uploaded here.
    """
    paths = [Path(each) for each in ([upload] if isinstance(upload, str) else upload or [])]
    if not paths:
        raise ValueError(f"Add {what} first.")
    if len(paths) > MAX_FILES:
        raise ValueError(f"You sent {len(paths)} files; the limit is {MAX_FILES}.")
    for path in paths:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise ValueError(f"This file is larger than {MAX_BYTES >> 20} MB; send a smaller one.")
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(os.path.realpath(folder)) for folder in (get_upload_folder(), SAMPLES)):
            raise ValueError("This file was not uploaded here; upload it.")
    return paths


def require_present(paths: Sequence[Path]) -> None:
    """Raise ValueError for a file that was deleted."""
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path.name!r} was deleted, because of its age or to make room; upload it again.")


def sounds(sources: Sequence[Source], minutes: float) -> list[Tensor]:
    """Returns sound files, by their paths or as file objects, as 16 kHz mono, (samples,) each.

    Raises:
        ValueError: one is no sound or is silent, or together they are longer than `minutes`; then decoding stops.
    """
    require_present([source for source in sources if isinstance(source, Path)])
    left, wavs = minutes * 60.0, []
    for source in sources:
        try:
            wavs.append(ssl_vc.read(source, speech=True, max_seconds=left))
        except TooLongError:
            raise ValueError(f"This is longer than {minutes:g} minutes; send a shorter recording.") from None
        left -= len(wavs[-1]) / 16_000
    return wavs
