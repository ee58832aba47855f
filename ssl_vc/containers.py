"""Ogg and MP3 files, prepared for libsndfile, which otherwise loses some of their sound, and what files lack.

    Ogg    | link 1 | link 2 |             of a chain libsndfile reads the first link; here each is a part
    MP3    | Xing | frame | damage | frame |  ->  | Xing, corrected | frame | frame |

It takes an MP3's length from the Xing frame, or guesses it from the first frame's bit rate, and its decoder, libmpg123,
writes to stderr about what is no frame. A stream of whole frames after a correct Xing frame has neither problem.
"""

import os
import re
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import soundfile

LARGEST = 2**30  # bytes; a larger file is opened as it is
UNKNOWN = 2**63 - 1  # frames of a FLAC that was streamed
STREAMED = 2**31 - 2**16  # bytes of sound and more, which writers to a pipe declare
CUT_OFF = re.compile(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)
NEGLIGIBLE = 0.2  # seconds
FIRST, LAST = 2, 4  # flags of an Ogg page
BIT_RATES = {  # kbit/s of layer III, by whether it is MPEG 1
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by version
LEAST = 0.1  # share of an MP3 that is frames; other content looks like a few by chance
XING = b"Xing", b"Info"  # for a variable and a constant bit rate
ROOMY = 13  # index of a bit rate whose frames have room for a Xing header


class Part(NamedTuple):
    """A part of a file that is decoded by itself.

    Attributes:
        content: None for the file as it is.
        lost: seconds of its declared length that are missing.
        ended: whether its end is there.
    """

    content: bytes | None = None
    lost: float = 0.0
    ended: bool = True

    def open(self, source: Path | bytes) -> str | bytes | BytesIO:
        """Return what libsndfile opens, of the file at this path, which need not be text, or with this content."""
        content = source if self.content is None else self.content
        if isinstance(content, bytes):
            return BytesIO(content)
        return str(content) if os.name == "nt" else os.fsencode(content)


class Completeness:
    """How much of a file could be read, of what it declares."""

    def __init__(self) -> None:
        self.found, self.lost, self.ended = 0.0, 0.0, True

    def record(
        self, part: Part, file: soundfile.SoundFile, blocks: Iterable[npt.NDArray[Any]]
    ) -> Iterator[npt.NDArray[Any]]:
        """Pass a part's blocks (samples, channels) through."""
        samples = 0
        for block in blocks:
            samples += len(block)
            yield block
        undecoded = max(file.frames - samples, 0) if file.frames < UNKNOWN else 0
        self.found += samples / file.samplerate
        self.lost += part.lost + (undecoded + _cut_off(file)) / file.samplerate
        self.ended &= part.ended

    @property
    def problem(self) -> str:
        """What is missing, as the rest of a sentence about the file; "" if nothing is."""
        if self.lost > NEGLIGIBLE:
            total = self.found + self.lost
            return f"is cut off or damaged: {self.lost:.1f} of its {total:.1f} seconds are missing; get it again"
        if not self.ended:
            return f"ends after {self.found:.1f} seconds without an end mark; if it was cut off, get it again"
        return ""


def _cut_off(file: soundfile.SoundFile) -> float:
    """Return how many samples a wav or aiff file declares beyond its end, as libsndfile notes."""
    noted = CUT_OFF.search(file.extra_info)
    declared, there = map(int, noted.groups()) if noted else (0, 0)
    return file.frames * (declared / there - 1) if there < declared < STREAMED and there else 0.0


def split(source: Path | bytes) -> list[Part]:
    """Return the parts of a sound file, or of its content, in order."""
    named_mp3 = isinstance(source, Path) and source.suffix.lower() == ".mp3"
    with source.open("rb") if isinstance(source, Path) else BytesIO(source) as file:
        start = file.read(4)
        ogg = start == b"OggS"
        mp3 = start.startswith(b"ID3") or _parse(start) is not None or named_mp3
        if not (ogg or mp3) or file.seek(0, os.SEEK_END) > LARGEST:
            return [Part()]
        file.seek(0)
        data = file.read()
    return (_ogg_links(data) if ogg else _mp3_streams(data)) or [Part()]


def _ogg_links(data: bytes) -> list[Part]:
    starts: list[int] = []
    ended: list[bool] = []
    before = 0
    for start, flags, whole in _ogg_pages(data):
        if flags & FIRST and not before & FIRST:  # of the first of its streams
            starts.append(start)
            ended.append(False)
        if ended:
            ended[-1] = bool(flags & LAST) and whole
        before = flags
    if len(starts) < 2:
        return [Part(ended=end) for end in ended]
    stops = [*starts[1:], len(data)]
    return [Part(data[start:stop], ended=end) for start, stop, end in zip(starts, stops, ended, strict=True)]


def _ogg_pages(data: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yield the offset and flags of each page, and whether it is there as a whole."""
    start = data.find(b"OggS")
    while 0 <= start <= len(data) - 27:
        segments = data[start + 27 : start + 27 + data[start + 26]]
        stop = start + 27 + len(segments) + sum(segments)
        yield start, data[start + 5], len(segments) == data[start + 26] and stop <= len(data)
        start = data.find(b"OggS", stop)


class _Frame(NamedTuple):
    """An MPEG layer III frame, as its header describes it.

    Attributes:
        kind: version, sample rate and whether it is mono; the same for all frames of a stream.
        length: in bytes.
        seconds: of sound.
        body: offset of its body, where a Xing header may be.
    """

    kind: tuple[int, int, bool]
    length: int
    seconds: float
    body: int


@lru_cache(maxsize=4096)
def _parse(header: bytes) -> _Frame | None:
    """Return the frame with this header of four bytes; None if it is none."""
    bits = int.from_bytes(header, "big")
    version, layer, rate_index, index = bits >> 19 & 3, bits >> 17 & 3, bits >> 10 & 3, bits >> 12 & 15
    if len(header) < 4 or bits >> 21 != 0x7FF or version == 1 or layer != 1 or rate_index == 3 or index in (0, 15):
        return None
    first, mono, rate = version == 3, bits >> 6 & 3 == 3, SAMPLE_RATES[version][rate_index]
    samples = 1152 if first else 576
    length = samples * 125 * BIT_RATES[first][index] // rate + (bits >> 9 & 1)
    side, checksum = (17 if mono else 32) if first else (9 if mono else 17), 0 if bits >> 16 & 1 else 2
    return _Frame((version, rate, mono), length, samples / rate, 4 + checksum + side)


def _mp3_streams(data: bytes) -> list[Part]:
    streams: list[list[tuple[int, _Frame]]] = []
    size = 0
    for start, frame in _mp3_frames(data):
        size += frame.length
        if not streams or frame.kind != streams[-1][0][1].kind or _declared(data, start, frame) is not None:
            streams.append([])
        streams[-1].append((start, frame))
    if size < LEAST * (len(data) - _after_tags(data)):
        return []
    return [part for part in (_mp3_part(data, stream) for stream in streams) if part]


def _mp3_part(data: bytes, stream: list[tuple[int, _Frame]]) -> Part | None:
    """Return the frames of a stream after a Xing frame with their true number and size; None if there are none."""
    start, first = stream[0]
    declared = _declared(data, start, first)
    frames = stream if declared is None else stream[1:]
    if not frames:
        return None
    header = bytearray(data[start : start + first.length])
    at = first.body
    if header[at : at + 4] not in XING or header[at + 7] & 3 != 3:  # it declares no number or no size
        header = bytearray((header[0], header[1] | 1, ROOMY << 4 | header[2] & 12, header[3]))
        frame = _parse(bytes(header))
        assert frame is not None
        at = frame.body
        header += bytes(frame.length - 4)
        header[at : at + 8] = b"Xing" + bytes((0, 0, 0, 3))
    size = len(header) + sum(frame.length for _, frame in frames)
    header[at + 8 : at + 16] = struct.pack(">II", len(frames), size)
    content = b"".join([header, *(data[start : start + frame.length] for start, frame in frames)])
    return Part(content, max((declared or 0) - len(frames), 0) * first.seconds)


def _declared(data: bytes, start: int, frame: _Frame) -> int | None:
    """Return the number of frames that a Xing or VBRI frame declares, 0 if it declares none; None for sound."""
    body = start + frame.body
    if data[body : body + 4] in XING:
        return int.from_bytes(data[body + 8 : body + 12], "big") if data[body + 7] & 1 else 0
    body = start + 36
    return int.from_bytes(data[body + 14 : body + 18], "big") if data[body : body + 4] == b"VBRI" else None


def _mp3_frames(data: bytes) -> Iterator[tuple[int, _Frame]]:
    """Yield the offsets of all whole frames, and what their headers say; whatever is between them is damage."""
    start, kind = _after_tags(data), None
    while 0 <= start < len(data):
        frame = _parse(data[start : start + 4])
        stop = start + frame.length if frame else start
        after = _parse(data[stop : stop + 4])
        follows = stop == len(data) or (after and frame and after.kind == frame.kind)
        if frame and stop <= len(data) and (frame.kind == kind or follows):
            yield start, frame
            start, kind = stop, frame.kind
        else:  # by chance, damage looks like one header, but hardly like two in the right distance
            start, kind = data.find(b"\xff", start + 1), None


def _after_tags(data: bytes) -> int:
    """Return the end of the ID3 tags at the start."""
    start = 0
    while data[start : start + 3] == b"ID3":
        header = data[start : start + 10].ljust(10, b"\0")
        size = sum((byte & 127) << shift for byte, shift in zip(header[6:], (21, 14, 7, 0), strict=True))
        start += 10 + size + (10 if header[5] & 16 else 0)  # with a footer
    return start
