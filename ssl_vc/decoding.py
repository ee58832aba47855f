"""Decoding of audio files, from a path or from the bytes of one, to blocks at 16 kHz mono.

libsndfile decodes, and ffmpeg what it does not know. A reason for a refusal is an `AudioError` without a subject.
"""

import shutil
import warnings
from collections.abc import Generator, Iterable
from itertools import count, takewhile
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from ssl_vc.containers import LARGEST, UNKNOWN, Completeness, split

SAMPLE_RATE = 16_000

Array: TypeAlias = npt.NDArray[Any]
Blocks: TypeAlias = Generator[Array, None, None]

BLOCK = 2**18  # samples decoded or encoded at a time, all channels together
NOT_AUDIO = "is not an audio file, or its start is missing; give wav, flac, ogg, opus, mp3 or aiff"
EMPTY = "is empty (0 bytes); save or download it again"

DEMUXERS = {".m4a": "mov", ".mp4": "mov", ".mov": "mov", ".aac": "aac", ".webm": "matroska", ".mkv": "matroska"}


class AudioError(ValueError):
    """Audio that cannot be read or written; the message is one sentence with the reason and the remedy."""


class TooLongError(AudioError):
    """Audio that is longer than the limit."""


def decode_file(path: Path, max_seconds: float) -> Blocks:
    """Return a file at 16 kHz mono (samples,), block by block."""
    if not path.is_file():
        problem = "is a folder; give one audio file" if path.is_dir() else "does not exist as a file; check the path"
        raise AudioError(problem)
    with path.open("rb") as file:
        if not file.read(1):
            raise AudioError(EMPTY)
    suffix = path.suffix.lower()
    return _ffmpeg_blocks(path, suffix) if suffix in DEMUXERS else _soundfile_blocks(path, max_seconds)


def decode_bytes(content: bytes, max_seconds: float) -> Blocks:
    """Return a file's content at 16 kHz mono (samples,), block by block."""
    if not content:
        raise AudioError(EMPTY)
    suffix = _suffix(content[:12])
    if suffix not in DEMUXERS:
        yield from _soundfile_blocks(content, max_seconds)
        return
    with TemporaryDirectory() as folder:  # ffmpeg has to seek in it
        path = Path(folder, f"audio{suffix}")
        path.write_bytes(content)
        yield from _ffmpeg_blocks(path, suffix)


def read_file_object(file: IO[bytes]) -> bytes:
    """Return the content of a binary file object, from its start."""
    if getattr(file, "closed", False):
        raise AudioError("is a closed file; open it again")
    if getattr(file, "seekable", bool)():
        file.seek(0)
    content = bytearray()
    while chunk := file.read(2**20):
        if not isinstance(chunk, bytes):
            raise AudioError("is a file opened as text; open it in the mode 'rb'")
        content += chunk
        if len(content) > LARGEST:
            raise AudioError(f"has more than {LARGEST >> 30} GB, which are too many for memory; give its path")
    return bytes(content)


def _suffix(start: bytes) -> str:
    """Return the suffix for the content of a file that only ffmpeg decodes, by its first bytes; "" for another."""
    if start[4:8] == b"ftyp":
        return ".mp4"
    if start.startswith(b"\x1aE\xdf\xa3"):
        return ".webm"
    return ".aac" if len(start) > 1 and start[0] == 0xFF and start[1] & 0xF6 == 0xF0 else ""  # ADTS


def _soundfile_blocks(source: Path | bytes, max_seconds: float) -> Blocks:
    completeness = Completeness()
    for part in split(source):
        with _open_sound(part.open(source)) as file:
            if file.frames < UNKNOWN:
                check_length(file.frames, file.samplerate, max_seconds)
            blocks = takewhile(len, (file.read(BLOCK // file.channels, "float32", always_2d=True) for _ in count()))
            yield from mono_16k(completeness.record(part, file, blocks), file.samplerate)
    if completeness.problem:
        name = "The audio" if isinstance(source, bytes) else repr(str(source))
        warnings.warn(f"{name} {completeness.problem}.", UserWarning, stacklevel=2)


def _open_sound(file: Any) -> soundfile.SoundFile:
    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError, UnicodeError) as error:  # TypeError: a .raw
        raise AudioError(NOT_AUDIO) from error
    if sound.format == "RAW":  # libsndfile takes anything named .au, .vox or .gsm for headerless audio
        sound.close()
        raise AudioError(NOT_AUDIO)
    sound.seekable = lambda: False  # else soundfile seeks after every block, which fails if the length is unknown
    return sound


def _ffmpeg_blocks(path: Path, suffix: str) -> Blocks:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        remedy = "install it (apt, brew or winget install ffmpeg), or convert to wav, flac, ogg, opus, mp3 or aiff"
        raise AudioError(f"is {suffix}, which cannot be read without ffmpeg; {remedy}")
    # The demuxer is forced: if ffmpeg guessed, a renamed playlist could make it open other files.
    command = [ffmpeg, "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-f", DEMUXERS[suffix]]
    # rematrix_maxval makes mono the mean of two channels (it weights more); "-ac 1" is 3 dB louder, for six 11 dB.
    mono = f"aresample={SAMPLE_RATE}:rematrix_maxval=1,aformat=channel_layouts=mono"
    command += ["-i", f"file:{path.absolute()}", "-vn", "-af", mono, "-f", "f32le", "pipe:1"]
    with TemporaryFile() as log, Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=log) as process:
        assert process.stdout is not None
        try:
            while data := process.stdout.read(4 * BLOCK):
                yield np.frombuffer(data, "<f4", count=len(data) // 4)
            process.wait()
        finally:
            process.kill()  # in case the reader stopped early; harmless once it has ended
        if process.returncode:
            log.seek(0)
            reason = log.read().decode(errors="replace").strip().rpartition("\n")[2] or "no reason given"
            raise AudioError(f"could not be decoded by ffmpeg ({reason}); make sure that it is {suffix}")


def check_length(samples: int, rate: int, max_seconds: float) -> None:
    """Raise a `TooLongError` for so many samples at a rate if they are longer than the limit."""
    if samples > max_seconds * rate:
        units = ("hours", 3600), ("minutes", 60), ("seconds", 1)
        limit, unit = next((max_seconds / size, unit) for unit, size in units if max_seconds >= size or size == 1)
        raise TooLongError(f"is longer than {limit:.3g} {unit}; cut it into parts")


def check_rate(rate: Any) -> None:
    """Raise an `AudioError` for what is no usual sample rate."""
    if not isinstance(rate, int | np.integer) or not 1_000 <= rate <= 768_000:
        raise AudioError(f"has the sample rate {rate!r}; it must be a whole number of Hz from 1000 to 768000")


def mono_16k(blocks: Iterable[Array], rate: int) -> Blocks:
    """Downmix (samples, channels) at `rate` to mono, and resample."""
    check_rate(rate)
    mono = (block.mean(axis=1) for block in blocks)
    if rate == SAMPLE_RATE:
        yield from mono
    else:
        stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        yield from map(stream.resample_chunk, mono)
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
