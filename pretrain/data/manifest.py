"""Lists of clips: from a folder, a table, or a Kaldi-like folder; what cannot be used is named, never fatal."""

import csv
import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

log = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
APART = 320  # samples by which a source may be longer or shorter than its clip: a frame
SOUNDS = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"}
Samples = npt.NDArray[np.float32]
BROKEN = (OSError, ValueError, TypeError, soundfile.SoundFileError)  # what reading a file that is no sound ends in


class Clip(NamedTuple):
    """A sound file and what is known of it.

    Attributes:
        key: its name: the path as the list has it; labels and alignments are found by it.
        path: where it is.
        seconds: how long it is.
        speaker: who speaks; empty if unknown.
        text: what is said; empty if unknown.
        language: of the text; empty if unknown.
        source: what is heard where that is not the clip itself: the same words at the same times in another voice, as
            long within 20 ms. Speaker, text and labels are the clip's own; None if the clip itself is heard.
    """

    key: str
    path: Path
    seconds: float
    speaker: str = ""
    text: str = ""
    language: str = ""
    source: Path | None = None

    @property
    def heard(self) -> Path:
        """The file that is heard."""
        return self.path if self.source is None else self.source


def read_manifest(source: str | Path, split: str | None = None, shortest: float = 0.1) -> list[Clip]:
    """List clips; those that are not there, unreadable, or too short are left out, and named in the log.

    So are those whose source is not there, unreadable, or not as long as the clip.

    Args:
        source: a folder (every sound file in it, however deep; the folder that holds a file names its speaker), a
            folder with a Kaldi `wav.scp` (perhaps `utt2spk`, `text`, `utt2dur`), or a tab-separated table with the
            column `path` and perhaps `seconds`, `speaker`, `text`, `language`, `source` and `split`; its paths start
            from its own folder.
        split: which rows of the table; all if None. Folders have no splits.
        shortest: clips of fewer seconds are left out.
    """
    source = Path(source)
    if split is not None and source.is_dir():
        raise ValueError(f"{source} is a folder, which has no splits; leave {split!r} out, or give a table.")
    if (source / "wav.scp").is_file():
        listed = list(_kaldi(source))
    elif source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in SOUNDS)
        listed = [Clip(path.relative_to(source).as_posix(), path, 0.0, path.parent.name) for path in files]
    elif source.is_file():
        listed = list(_table(source, split))
    else:
        raise ValueError(f"there are no clips at {source}; give a folder of sound files or a table of them.")
    with ThreadPoolExecutor(8) as pool:  # waits for the disk
        found = list(pool.map(_measured, listed))
    clips, left_out = [], []
    for clip, problem in found:
        if problem is None and clip.seconds < shortest:
            problem = f"too short: {clip.seconds:.2f} s"
        if problem is None:
            clips.append(clip)
        else:
            left_out.append(f"{clip.key} ({problem})")
    name_left_out(left_out)
    if not clips:
        of_split = f" of the split {split!r}" if split else ""
        reason = f"; the first left out: {left_out[0]}" if left_out else ""
        raise ValueError(f"{source} lists no usable clips{of_split}{reason}.")
    if len({clip.key for clip in clips}) < len(clips):
        raise ValueError(f"{source} lists a clip twice; its labels could not be told apart.")
    return clips


def name_left_out(left_out: list[str]) -> None:
    """Say which clips cannot be used, the first twenty by name."""
    if left_out:
        more = f" and {len(left_out) - 20} more" if len(left_out) > 20 else ""
        log.warning("%d clips left out: %s%s", len(left_out), ", ".join(left_out[:20]), more)


def decode(path: Path | BinaryIO) -> Samples:
    """Read a sound file as mono at 16 kHz (samples,)."""
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = sound[:, 0] if sound.shape[1] == 1 else sound.mean(axis=1)
    if not len(mono):
        raise ValueError("it has no samples")
    if not np.isfinite(mono).all():
        raise ValueError("not finite")
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    return np.ascontiguousarray(mono, dtype=np.float32)


def decode_heard(clip: Clip) -> Samples:
    """Returns what is heard of a clip (samples,), exactly as long as the clip itself, so that its labels fit."""
    sound = decode(clip.heard)
    return sound if clip.source is None else fitted(sound, len(decode(clip.path)))


def fitted(sound: Samples, samples: int) -> Samples:
    """Returns a sound cut, or filled up with silence, to so many samples."""
    return np.pad(sound[:samples], (0, max(samples - len(sound), 0)))


def sources_of(clips: Iterable[Clip]) -> str:
    """Returns a fingerprint of the sources, and of whose they are; empty if no clip has one."""
    named = sorted((clip.key, os.path.relpath(clip.source, clip.path.parent)) for clip in clips if clip.source)
    return hashlib.blake2b(repr(named).encode(), digest_size=8).hexdigest() if named else ""


def ahead(clips: list[Clip], read: Callable[[Clip], Samples], workers: int) -> Iterator[tuple[Clip, "Future[Samples]"]]:
    """Have clips read by threads, a few ahead of what is asked for."""
    waiting: deque[tuple[Clip, Future[Samples]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for clip in clips:
            waiting.append((clip, pool.submit(read, clip)))
            if len(waiting) > 2 * workers:
                yield waiting.popleft()
        yield from waiting


def _measured(clip: Clip) -> tuple[Clip, str | None]:
    """Fill in how long a clip is, where the list does not say, or tell why it cannot be used."""
    if not clip.key:
        return clip, "a row without a path"
    if not clip.path.is_file():
        return clip, "not there"
    if clip.seconds and clip.source is None:
        return clip, None
    try:
        seconds = _duration(clip.path)
    except (soundfile.SoundFileError, TypeError) as error:
        return clip, str(error).splitlines()[0]
    problem = None if clip.source is None else _unlike(clip.source, seconds)
    return clip if clip.seconds else clip._replace(seconds=seconds), problem


def _unlike(source: Path, seconds: float) -> str | None:
    """Returns why a source cannot stand for a clip of so many seconds; None if it can."""
    if not source.is_file():
        return "its source is not there"
    try:
        longer = _duration(source) - seconds
    except (soundfile.SoundFileError, TypeError) as error:
        return f"its source: {str(error).splitlines()[0]}"
    if round(abs(longer) * SAMPLE_RATE) <= APART:
        return None
    return f"its source is {abs(longer):.3f} s {'longer' if longer > 0 else 'shorter'}"


def _duration(path: Path) -> float:
    facts = soundfile.info(str(path))
    return facts.frames / facts.samplerate


def _table(file: Path, split: str | None) -> Iterator[Clip]:
    with file.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream, delimiter="\t")
        try:
            for row in rows:
                if None in row or any("\n" in (value or "") for value in row.values()):
                    raise csv.Error("a quotation mark is opened and not closed, or there are too many columns")
                if split is None or row.get("split") == split:
                    facts = {name: row.get(name) or "" for name in ("speaker", "text", "language")}
                    source = row.get("source")
                    yield Clip(
                        row.get("path") or "",
                        file.parent / (row.get("path") or ""),
                        _number(row.get("seconds")),
                        **facts,
                        source=file.parent / source if source else None,
                    )
        except csv.Error as error:
            raise ValueError(f"{file} cannot be read up to line {rows.line_num}: {error}.") from None
        columns = rows.fieldnames or ()
        for name in ("path", "split") if split is not None else ("path",):
            if name not in columns:
                raise ValueError(
                    f"{file} is no such table of clips; it needs tabs between columns, one called {name!r}."
                )


def _kaldi(folder: Path) -> Iterator[Clip]:
    columns = {name: dict(_pairs(folder / name)) for name in ("utt2spk", "text", "utt2dur")}
    for key, path in _pairs(folder / "wav.scp"):
        if path.endswith("|"):
            raise ValueError(f"{folder / 'wav.scp'} runs a command for {key}; only paths of sound files are read.")
        speaker, text, seconds = (columns[name].get(key, "") for name in ("utt2spk", "text", "utt2dur"))
        yield Clip(key, folder / path, _number(seconds), speaker, text)


def _pairs(file: Path) -> Iterable[tuple[str, str]]:
    if not file.is_file():
        return
    for line in filter(str.strip, file.read_text(encoding="utf-8").splitlines()):
        key, *value = line.split(None, 1)
        yield key, "".join(value).strip()


def _number(text: str | None) -> float:
    try:
        return max(float(text or 0), 0.0)
    except ValueError:
        return 0.0
