"""Uploads: only files that were uploaded here are opened, and none that is too large or too long."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import soundfile
from gradio.utils import get_upload_folder
from torch import Tensor

import ssl_vc

SAMPLES = Path(__file__).parent / "samples"
MAX_BYTES = 50 << 20  # of a file
MAX_MINUTES = 10  # of a source
MAX_REFERENCE_MINUTES = 20  # of all recordings of a voice
MAX_FILES = 50  # at a time
MAX_CHARACTERS = 3000  # of a text
UNKNOWN = 2**63 - 1  # frames of a file that was streamed

Upload = str | list[str] | None


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


def sounds(paths: Sequence[Path], minutes: float) -> list[Tensor]:
    """Returns sound files as 16 kHz mono, (samples,) each.

    Raises:
        ValueError: one is no sound or is silent, or together they are longer than `minutes`.
    """
    left, wavs = minutes * 60.0, []
    for path in paths:
        seconds = _header_seconds(path)  # a file that is too long is not decoded
        if seconds <= left:
            wavs.append(ssl_vc.read(path, speech=True))
            seconds = len(wavs[-1]) / 16_000
        left -= seconds
        if left < 0:
            raise ValueError(f"This is longer than {minutes:g} minutes; send a shorter recording.")
    return wavs


def _header_seconds(path: Path) -> float:
    """Returns the duration that a file's header states, 0 if it states none."""
    with suppress(soundfile.LibsndfileError, RuntimeError):
        info = soundfile.info(path)
        return float(info.duration) if info.frames < UNKNOWN else 0.0
    return 0.0
