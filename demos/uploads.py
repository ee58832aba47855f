"""What users send: nothing is opened but what they uploaded and nothing too long."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import soundfile
from gradio.utils import get_upload_folder

import ssl_vc

SAMPLES = Path(__file__).parent / "samples"
LARGEST = 50 << 20  # bytes of a file
MINUTES = 10  # of a source
REFERENCE_MINUTES = 20  # of all recordings of a voice
FILES = 50  # at a time
UNKNOWN = 2**63 - 1  # frames of a file that came out of a stream
TEXT = 3000  # letters to say

Sent = str | list[str] | None


def given(sent: Sent, what: str) -> list[Path]:
    """Give the uploaded files; refuse none, too many, and whatever was not uploaded here."""
    paths = [Path(each) for each in ([sent] if isinstance(sent, str) else sent or [])]
    if not paths:
        raise ValueError(f"Give {what} first.")
    if len(paths) > FILES:
        raise ValueError(f"These are {len(paths)} files; give {FILES} at most.")
    for path in paths:
        if path.is_file() and path.stat().st_size > LARGEST:
            raise ValueError(f"This file is larger than {LARGEST >> 20} MB; give less.")
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(os.path.realpath(folder)) for folder in (get_upload_folder(), SAMPLES)):
            raise ValueError("This file was not uploaded here; upload it.")
    return paths


def check_sounds(paths: Sequence[Path], minutes: float) -> None:
    """Refuse what is no sound, is silent, or lasts longer than so many minutes in all."""
    left = minutes * 60.0
    for path in paths:
        told = 0.0
        with suppress(soundfile.LibsndfileError, RuntimeError):
            info = soundfile.info(path)
            told = info.duration if info.frames < UNKNOWN else 0.0  # before a long one is decoded
        left -= told if told > left else len(ssl_vc.read(path, speech=True)) / 16_000
        if left < 0:
            raise ValueError(f"This is longer than {minutes:g} minutes; give less.")
