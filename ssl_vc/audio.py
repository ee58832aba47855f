"""Audio input and output: files, bytes and arrays to mono tensors at 16 kHz, and tensors to files.

Unusable input raises an `AudioError`, one sentence for the user. Private functions and `ssl_vc.decoding` raise it
without a subject; `_about` prepends it.
"""

import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import takewhile
from pathlib import Path
from threading import Event
from typing import IO, Any, TypeAlias

import numpy as np
import soundfile
import torch
from torch import Tensor

from ssl_vc.decoding import BLOCK, Array, Blocks, check_length, check_rate, decode_bytes, decode_file, mono_16k
from ssl_vc.decoding import DEMUXERS as DEMUXERS
from ssl_vc.decoding import SAMPLE_RATE as SAMPLE_RATE
from ssl_vc.decoding import AudioError as AudioError
from ssl_vc.decoding import TooLongError as TooLongError
from ssl_vc.decoding import read_file_object as read_file_object
from ssl_vc.files import CheckedFile, replacing

MAX_SECONDS = 6 * 3600.0

Source: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Tensor | Array | tuple[Array | Tensor, int]
)

LARGEST_PEAK = 2.0**31  # samples of 32 bits that were not scaled; the squares of more would overflow
SILENCE = 1e-4  # a peak below -80 dBFS
NO_SAMPLES = "has no samples; give a longer recording"
NOT_FINITE = "has samples that are NaN or infinite; repair it first"

CONTAINERS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".opus": "OGG", ".mp3": "MP3"}
OPUS_RATES = 8_000, 12_000, 16_000, 24_000, 48_000
MP3_RATES = *OPUS_RATES, 11_025, 22_050, 32_000, 44_100
ENCODER_RATES = {".opus": OPUS_RATES, ".mp3": MP3_RATES, ".ogg": range(200_001)}  # above, Vorbis crashes


def read(source: Source, *, speech: bool = False, max_seconds: float = MAX_SECONDS) -> Tensor:
    """Read audio as 16 kHz mono, (samples,) float32; input in that format is returned bit for bit.

    Reads in blocks, so only the result of a long file is held in memory.

    Args:
        source: a path (wav, flac, ogg, opus, mp3, aiff and others; with ffmpeg also m4a, mp4, mov, aac, webm, mkv); the
            bytes of such a file, or a binary file object, which is read from its start; an `(array, rate)` pair; or an
            array or tensor at 16 kHz. Arrays and tensors are (samples,), (samples, channels) or, up to 8 channels,
            (channels, samples). Channels are averaged, integers scaled to [-1, 1].
        speech: refuse audio that is silent throughout.
        max_seconds: raise a `TooLongError` for longer audio, where possible before decoding it.
    """
    return torch.from_numpy(np.concatenate(list(read_blocks(source, speech=speech, max_seconds=max_seconds))))


def read_blocks(source: Source, *, speech: bool = False, max_seconds: float = MAX_SECONDS) -> Iterator[Array]:
    """Yield what `read` returns, block by block."""
    length, peak = 0, 0.0
    with _about(repr(os.fspath(source)) if isinstance(source, str | os.PathLike) else "The audio"):
        with closing(_blocks(source, max_seconds)) as blocks:
            for block in blocks:
                length += len(block)
                check_length(length, SAMPLE_RATE, max_seconds)
                loudest = float(np.abs(block).max(initial=0))
                if not math.isfinite(loudest):
                    raise AudioError(NOT_FINITE)
                if loudest > LARGEST_PEAK:
                    raise AudioError(f"has a peak of {loudest:.3g}, and full scale is 1; scale it first")
                peak = max(peak, loudest)
                yield block
        if not length:
            raise AudioError(NO_SAMPLES)
        if speech and peak < SILENCE:
            raise AudioError("is silent throughout; give a recording with speech in it")


def trim(wav: Tensor, *, top_db: float = 40.0, margin: float = 0.05) -> Tensor:
    """Trim silence at both ends of a 16 kHz waveform (samples,), except for `margin` seconds; (0,) if all is silent.

    A frame of 20 ms is silent if it is more than `top_db` below the loudest. Louder noise stays: a rule to tell it from
    a soft consonant would sometimes remove the consonant.
    """
    if (wav.abs() < SILENCE).all():
        return wav[:0]
    frame = SAMPLE_RATE // 50
    power = torch.nn.functional.pad(wav, (0, -len(wav) % frame)).view(-1, frame).square().mean(1)
    level = 10 * power.clamp(min=1e-12).log10()
    active = (level >= level.max() - top_db).nonzero()
    kept = round(margin * SAMPLE_RATE)
    return wav[max(0, int(active[0]) * frame - kept) : (int(active[-1]) + 1) * frame + kept]


def write(path: str | os.PathLike[str], wav: Tensor | Array, sample_rate: int) -> Path:
    """Write a mono waveform atomically and return the path. Peaks above 1 are scaled to 0.999, with a warning.

    Args:
        path: ends in .wav or .flac (16 bit), .ogg (Vorbis), .opus or .mp3; an existing file is replaced.
        wav: (samples,) or (1, samples).
        sample_rate: in Hz; Opus and mp3 know only some.
    """
    path = Path(path)
    name, suffix = repr(str(path)), path.suffix.lower()
    with _about(f"The audio for {name}"):
        check_rate(sample_rate)
        frames = as_frames(wav)
        if frames.shape[1] > 1:
            raise AudioError(f"has {frames.shape[1]} channels; give (samples,) or (1, samples)")
        peak = float(max(frames.max(), -frames.min()))
        if not math.isfinite(peak):
            raise AudioError(NOT_FINITE)
    with _about(name):
        if suffix not in CONTAINERS:
            raise AudioError(f"has the suffix {suffix!r}; use one of {', '.join(CONTAINERS)}")
        if not path.parent.is_dir():
            raise AudioError(f"cannot be written: the folder {str(path.parent)!r} does not exist; create it first")
        if sample_rate not in ENCODER_RATES.get(suffix, (sample_rate,)):
            raise AudioError(f"cannot hold {sample_rate} Hz; resample to 16000, 24000 or 48000 Hz, or use .wav")
        if peak > 1:
            frames = frames * (0.999 / peak)
            lowered = f"lowered by {20 * math.log10(peak / 0.999):.1f} dB"
            warnings.warn(f"{name} would clip: its peak is {peak:.3g}; {lowered}.", UserWarning, stacklevel=2)
        with replacing(path) as temporary:
            _encode(temporary, frames, sample_rate, suffix)
    return path


def _encode(path: Path, frames: Array, sample_rate: int, suffix: str) -> None:
    """Write (samples, 1) through a file of ours, since libsndfile reports no failure of the writes at its close.

    It calls that file from a thread, where Ctrl-C is not raised: an exception in its callbacks would be lost.
    """
    subtype = "OPUS" if suffix == ".opus" else None
    settings: tuple[Any, ...] = "w", sample_rate, 1, subtype, None, CONTAINERS[suffix]
    starts, stopped = range(0, len(frames), BLOCK), Event()  # minutes of Vorbis in one call crash libsndfile

    def encode() -> None:
        with CheckedFile(path, "r+") as file, soundfile.SoundFile(file, *settings) as sound:
            for start in takewhile(lambda _: not stopped.is_set(), starts):
                sound.write(frames[start : start + BLOCK])
                file.check()

    with ThreadPoolExecutor(1) as encoder:
        try:
            encoder.submit(encode).result()
        finally:
            stopped.set()  # Ctrl-C in `submit` leaves a thread behind, which must not create the file again


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Prepend the subject to every AudioError, and turn system and libsndfile errors into one."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows in float32 is refused as infinite
            yield
    except AudioError as error:
        raise type(error)(f"{name} {' '.join(str(error).split())}.") from error
    except OSError as error:
        reason = error.strerror or error
        raise AudioError(f"{name} cannot be accessed: {reason}; check its permissions and its disk.") from error
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name} failed midway ({error.error_string}); it is damaged, or the disk is full.") from error


def _blocks(source: Any, max_seconds: float) -> Blocks:
    """Return a source at 16 kHz mono (samples,), block by block."""
    if isinstance(source, str | os.PathLike):
        return decode_file(Path(source), max_seconds)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode_bytes(bytes(source), max_seconds)
    if hasattr(source, "read"):
        return decode_bytes(read_file_object(source), max_seconds)
    pair = (source, SAMPLE_RATE) if isinstance(source, Tensor | np.ndarray) else source
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise AudioError(
            f"is a {type(source).__name__}; give a path, bytes, an (array, rate) pair, or an array or tensor at 16 kHz"
        )
    frames, rate = as_frames(pair[0]), pair[1]
    check_rate(rate)
    check_length(len(frames), rate, max_seconds)
    return mono_16k([frames], rate)


def is_single(sources: object) -> bool:
    """Return whether something is one source, rather than several."""
    if isinstance(sources, tuple):
        return len(sources) == 2 and isinstance(sources[1], int | np.integer)
    one = isinstance(sources, str | os.PathLike | bytes | bytearray | memoryview | Tensor | np.ndarray)
    return one or hasattr(sources, "read")


def raw_data(source: Any) -> Array:
    """Return what a source in memory consists of: its samples as they are, or the bytes of its file."""
    if isinstance(source, bytes | bytearray | memoryview):
        return np.frombuffer(source, np.uint8)
    if hasattr(source, "read"):
        return np.frombuffer(read_file_object(source), np.uint8)
    samples = source[0] if isinstance(source, tuple) else source
    return samples.numpy(force=True) if isinstance(samples, Tensor) else np.asarray(samples)


def as_frames(audio: Any) -> Array:
    """Return an array or tensor as (samples, channels), float32."""
    if isinstance(audio, Tensor):
        audio = (audio.float() if audio.is_floating_point() else audio).numpy(force=True)
    if not isinstance(audio, np.ndarray):
        raise AudioError(f"is a {type(audio).__name__}; give a numpy array or a torch tensor")
    kind = audio.dtype.kind
    if kind not in "fiu" or (kind in "iu" and audio.itemsize > 4):
        raise AudioError(f"has the dtype {audio.dtype}; give floating point, or integers of 8, 16 or 32 bits")
    if not audio.size:
        raise AudioError(NO_SAMPLES)
    frames = np.asarray(audio, np.float32)
    frames = frames[:, None] if frames.ndim == 1 else frames
    if frames.ndim == 2 and len(frames) <= 8 and len(frames) < frames.shape[1]:
        frames = frames.T
    if frames.ndim != 2 or len(frames) < frames.shape[1]:
        raise AudioError(f"has the shape {audio.shape}; give (samples,) or (samples, channels)")
    return frames if kind == "f" else frames / 2.0 ** (8 * audio.itemsize - 1) - (kind == "u")
