"""Manifests: lists of clips from a folder, a table, or a Kaldi-style folder; unusable clips are skipped and logged."""

import csv
import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from pretrain.encoder.framing import HOP, SAMPLE_RATE

log = logging.getLogger(__name__)

SOURCE_TOLERANCE = HOP  # samples by which a source may be longer or shorter than its clip
HELD_OUT = 20  # every so many clips or speakers
LONGEST_TRANSCRIPT = 64 << 10  # bytes
AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"}
Samples = npt.NDArray[np.float32]
READ_ERRORS = (OSError, ValueError, TypeError, soundfile.SoundFileError)  # of reading a broken audio file


class Clip(NamedTuple):
    """An audio file and its metadata.

    Attributes:
        key: identifies its labels and alignment: the path as written in the manifest.
        path: of the file.
        seconds: duration.
        speaker: empty if unknown.
        text: transcript; empty if unknown.
        language: of the transcript; empty if unknown.
        source: parallel recording to use as input instead: the same words at the same times in another voice, of the
            same duration within 20 ms. Speaker, transcript and labels remain those of the clip.
        sentence: clips of the same sentence and duration are parallel, the same sounds at the same times in several
            voices (see `parallel_clips`); empty for none.
    """

    key: str
    path: Path
    seconds: float
    speaker: str = ""
    text: str = ""
    language: str = ""
    source: Path | None = None
    sentence: str = ""

    @property
    def input_path(self) -> Path:
        """The file that a model gets as input: the source, if there is one."""
        return self.path if self.source is None else self.source


def read_manifest(source: str | Path, split: str | None = None, shortest: float = 0.1) -> list[Clip]:
    """List clips; missing, unreadable and too short ones are skipped and logged.

    So are clips whose source is missing, unreadable or of another duration.

    Args:
        source: a folder (searched recursively; the parent folder of a file is its speaker, and a `.txt` file beside
            it its transcript), a folder with a Kaldi `wav.scp` (and optionally `utt2spk`, `text`, `utt2dur`), or a
            tab-separated table with the column `path` and optionally `seconds`, `speaker`, `text`, `language`,
            `source`, `sentence` and `split`, whose paths are relative to it.
        split: rows of the table to use; all if None. Where clips have no splits, see `hold_out`.
        shortest: minimum duration in seconds.
    """
    source = Path(source)
    has_splits = True
    if (source / "wav.scp").is_file():
        clips, has_splits = list(_kaldi(source)), False
    elif source.is_dir():
        clips, has_splits = list(_folder(source)), False
    elif source.is_file():
        has_splits = "split" in _columns(source)
        clips = list(_table(source, split if has_splits else None))
    else:
        raise ValueError(f"there are no clips at {source}; give a folder of audio files or a manifest.")
    with ThreadPoolExecutor(8) as pool:  # I/O-bound
        checked = list(pool.map(_with_duration, clips))
    usable, left_out = [], []
    for clip, problem in checked:
        if problem is None and clip.seconds < shortest:
            problem = f"too short: {clip.seconds:.2f} s"
        if problem is None:
            usable.append(clip)
        else:
            left_out.append(f"{clip.key} ({problem})")
    log_skipped(left_out)
    if not usable:
        of_split = f" of the split {split!r}" if split else ""
        reason = f"; the first left out: {left_out[0]}" if left_out else ""
        raise ValueError(f"{source} lists no usable clips{of_split}{reason}.")
    if len({clip.key for clip in usable}) < len(usable):
        raise ValueError(f"{source} lists a clip twice; its labels would be ambiguous.")
    if split is not None and not has_splits:
        chosen = hold_out(usable, split)
        log.info("%s has no splits; %d of its %d clips are used as %r", source, len(chosen), len(usable), split)
        return chosen
    return usable


def hold_out(clips: list[Clip], split: str) -> list[Clip]:
    """Return a split of clips that have none: all but every twentieth speaker as `train`, these as any other.

    Of fewer than four speakers every twentieth clip is held out; a single clip is in both splits.
    """
    speakers = sorted({clip.speaker for clip in clips})
    if len(speakers) < 4:
        held_out = {clip.key for clip in clips[::HELD_OUT]}
    else:
        held_out = {clip.key for clip in clips if clip.speaker in speakers[::HELD_OUT]}
    return [clip for clip in clips if (clip.key in held_out) != (split == "train")] or clips


def log_skipped(left_out: list[str]) -> None:
    """Warn about skipped clips, with the first twenty by name."""
    if left_out:
        more = f" and {len(left_out) - 20} more" if len(left_out) > 20 else ""
        log.warning("%d clips left out: %s%s", len(left_out), ", ".join(left_out[:20]), more)


def decode(path: Path | BinaryIO) -> Samples:
    """Read an audio file as mono at 16 kHz (samples,)."""
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = audio[:, 0] if audio.shape[1] == 1 else audio.mean(axis=1)
    if not len(mono):
        raise ValueError("it has no samples")
    if not np.isfinite(mono).all():
        raise ValueError("not finite")
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    return np.ascontiguousarray(mono, dtype=np.float32)


def decode_input(clip: Clip) -> Samples:
    """Return a clip's input waveform (samples,), exactly as long as the clip itself, so that its labels fit."""
    wav = decode(clip.input_path)
    return wav if clip.source is None else fit_length(wav, len(decode(clip.path)))


def fit_length(wav: Samples, samples: int) -> Samples:
    """Cut or zero-pad a waveform to a number of samples."""
    return np.pad(wav[:samples], (0, max(samples - len(wav), 0)))


def sources_fingerprint(clips: Iterable[Clip]) -> str:
    """Return a hash of the clips' sources; empty if no clip has one."""
    sources = sorted((clip.key, os.path.relpath(clip.source, clip.path.parent)) for clip in clips if clip.source)
    return hashlib.blake2b(repr(sources).encode(), digest_size=8).hexdigest() if sources else ""


def parallel_clips(clips: Sequence[Clip]) -> list[list[int]]:
    """Return for each clip the indices of all clips parallel to it, itself included, in order."""
    groups: dict[tuple[str, float], list[int]] = {}
    for index, clip in enumerate(clips):
        if clip.sentence:
            groups.setdefault((clip.sentence, round(clip.seconds, 3)), []).append(index)
    return [
        groups[clip.sentence, round(clip.seconds, 3)] if clip.sentence else [index] for index, clip in enumerate(clips)
    ]


def prefetch(
    clips: list[Clip], read: Callable[[Clip], Samples], workers: int
) -> Iterator[tuple[Clip, "Future[Samples]"]]:
    """Read clips in threads, in order and a few in advance."""
    pending: deque[tuple[Clip, Future[Samples]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for clip in clips:
            pending.append((clip, pool.submit(read, clip)))
            if len(pending) > 2 * workers:
                yield pending.popleft()
        yield from pending


def _with_duration(clip: Clip) -> tuple[Clip, str | None]:
    """Return a clip with its duration, and why it is unusable, if it is."""
    if not clip.key:
        return clip, "a row without a path"
    if not os.path.isfile(clip.path):  # noqa: PTH113 - false, not an error, for a name that is too long
        return clip, "not there"
    if clip.seconds and clip.source is None:
        return clip, None
    try:
        seconds = _duration(clip.path)
    except (soundfile.SoundFileError, TypeError) as error:
        return clip, str(error).splitlines()[0]
    problem = None if clip.source is None else _mismatch(clip.source, seconds)
    return clip if clip.seconds else clip._replace(seconds=seconds), problem


def _mismatch(source: Path, seconds: float) -> str | None:
    """Return why a source does not fit a clip of some duration; None if it does."""
    if not os.path.isfile(source):  # noqa: PTH113
        return "its source is not there"
    try:
        longer = _duration(source) - seconds
    except (soundfile.SoundFileError, TypeError) as error:
        return f"its source: {str(error).splitlines()[0]}"
    if round(abs(longer) * SAMPLE_RATE) <= SOURCE_TOLERANCE:
        return None
    return f"its source is {abs(longer):.3f} s {'longer' if longer > 0 else 'shorter'}"


def _duration(path: Path) -> float:
    info = soundfile.info(str(path))
    return info.frames / info.samplerate


def _folder(folder: Path) -> Iterator[Clip]:
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES):
        transcript = path.with_suffix(".txt")
        text = ""
        if transcript.is_file() and transcript.stat().st_size <= LONGEST_TRANSCRIPT:
            text = " ".join(transcript.read_text(encoding="utf-8", errors="replace").split())
        yield Clip(path.relative_to(folder).as_posix(), path, 0.0, path.parent.name, text)


def _columns(file: Path) -> Sequence[str]:
    with file.open(newline="", encoding="utf-8", errors="replace") as stream, suppress(csv.Error):
        return next(csv.reader([stream.readline(LONGEST_TRANSCRIPT)], delimiter="\t"), [])
    return []


def _table(file: Path, split: str | None) -> Iterator[Clip]:
    with file.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream, delimiter="\t")
        try:
            for row in rows:
                if None in row or any("\n" in (value or "") for value in row.values()):
                    raise csv.Error("a quotation mark is opened and not closed, or there are too many columns")
                if split is None or row.get("split") == split:
                    metadata = {name: row.get(name) or "" for name in ("speaker", "text", "language", "sentence")}
                    source = row.get("source")
                    yield Clip(
                        row.get("path") or "",
                        file.parent / (row.get("path") or ""),
                        _number(row.get("seconds")),
                        **metadata,
                        source=file.parent / source if source else None,
                    )
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{file} cannot be read up to line {rows.line_num}: {error}.") from None
        if "path" not in (rows.fieldnames or ()):
            raise ValueError(f"{file} is no such table of clips; it needs tabs between columns, one called 'path'.")


def _kaldi(folder: Path) -> Iterator[Clip]:
    columns = {name: dict(_pairs(folder / name)) for name in ("utt2spk", "text", "utt2dur")}
    for key, path in _pairs(folder / "wav.scp"):
        if path.endswith("|"):
            raise ValueError(f"{folder / 'wav.scp'} runs a command for {key}; only paths of audio files are supported.")
        speaker, text, seconds = (columns[name].get(key, "") for name in ("utt2spk", "text", "utt2dur"))
        yield Clip(key, folder / path, _number(seconds), speaker, text)


def _pairs(file: Path) -> Iterable[tuple[str, str]]:
    if not file.is_file():
        return
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a text file in UTF-8: {error}.") from None
    for line in filter(str.strip, lines):
        key, *value = line.split(None, 1)
        yield key, "".join(value).strip()


def _number(text: str | None) -> float:
    try:
        return max(float(text or 0), 0.0)
    except ValueError:
        return 0.0
