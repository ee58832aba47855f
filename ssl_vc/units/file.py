"""`.units`: speech as a few hundred bits a second, in a file that knows what made it.

    | SVCU | version | layout | pitches | bands | codec | clusters - 1 | samples | how many ids |
    | ids, packed | lengths of runs, by gamma code | pitch, packed | voice: log of its F0, timbre, as float16 |
    | CRC-32 of all that |

The layouts: `frames`, an id for every frame; `runs`, an id and a length for every run of equal ones; `ids`, those of
the runs alone, whose lengths are guessed when they are to be heard. Pitch is a code for four frames (or for a run whose
length nobody tells), or a byte for every frame, or there is none.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ssl_vc.files import replacing
from ssl_vc.units.bits import Bits, Reader, fixed, gamma, to_bytes, width_of

Layout = Literal["frames", "runs", "ids"]
LAYOUTS: tuple[Layout, ...] = ("frames", "runs", "ids")

MAGIC, VERSION = b"SVCU", 1
HEAD = struct.Struct("<4sBBHB8sHII")
HOP = 320  # samples of 16 kHz sound to a frame
BYTES = 256  # different pitches, where each frame has one
BLOCK = 4  # frames to a code of pitch: 12.5 a second
LONGEST = 24 * 3600 * 16_000  # samples that a file may claim
MOST = 2**16  # units that a codec may have


@dataclass(frozen=True, eq=False)
class Units:
    """What was said, as discrete units, and as much of the rest as is wanted.

    Attributes:
        codec: fingerprint of the codec that made them, 16 hexadecimal digits.
        clusters: ids are below this.
        samples: how long the sound is, at 16 kHz.
        ids: a unit for every frame, or for every run (numbers,), int64.
        lengths: frames in each run (numbers,); None if each is one frame, or if nobody tells.
        layout: `frames`, `runs` or `ids`.
        pitch: codes, or a byte for every frame, 0 for unvoiced (numbers,); None if there is none.
        pitches: how many codes there are; 256 for bytes, 0 if there is no pitch.
        level: median F0 in Hz; 0 if nothing is known of the voice.
        timbre: the voice's mean envelope (bands,); None if nothing is known of it.
    """

    codec: str
    clusters: int
    samples: int
    ids: Tensor
    lengths: Tensor | None = None
    layout: Layout = "frames"
    pitch: Tensor | None = None
    pitches: int = 0
    level: float = 0.0
    timbre: Tensor | None = None

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(f"these units have {problem}.")

    def _problem(self) -> str:
        if self.layout not in LAYOUTS:
            return f"the layout {self.layout!r}; possible are {', '.join(LAYOUTS)}"
        if not 0 < self.samples <= LONGEST:
            return f"{self.samples} samples; possible are 1 to {LONGEST}"
        if not 2 <= self.clusters <= MOST:
            return f"{self.clusters} clusters; possible are 2 to {MOST}"
        if not len(self.ids) or int(self.ids.min()) < 0 or int(self.ids.max()) >= self.clusters:
            return f"ids that are none of {self.clusters} clusters"
        if (self.lengths is not None) != (self.layout == "runs"):
            return f"the layout {self.layout}, {'and' if self.lengths is not None else 'but no'} lengths of runs"
        if self.lengths is not None and (len(self.lengths) != len(self.ids) or int(self.lengths.min()) < 1):
            return "lengths that are not one for each run, from 1 on"
        told = len(self.ids) if self.lengths is None else int(self.lengths.sum())
        if told != self.frames and (self.layout != "ids" or told > self.frames):
            return f"{told} frames, and {self.samples} samples, which make {self.frames}"
        if (self.pitch is None) != (self.pitches == 0):
            return f"{self.pitches} pitches, and {'no' if self.pitch is None else 'some'} pitch"
        if self.pitch is not None and (len(self.pitch) != self.moments or int(self.pitch.max()) >= self.pitches):
            return f"{len(self.pitch)} numbers of pitch below {int(self.pitch.max()) + 1}, not {self.moments}"
        if self.timbre is not None and not (self.level > 0 and bool(self.timbre.isfinite().all())):
            return "a voice without a pitch, or one whose numbers are not finite"
        return ""

    @property
    def frames(self) -> int:
        """How many frames of 20 ms the sound has; the last one may be cut off."""
        return -(-self.samples // HOP)

    @property
    def moments(self) -> int:
        """How many numbers of pitch there must be."""
        return moments_of(self.frames, len(self.ids), self.layout, self.pitches)

    @property
    def every_frame(self) -> Tensor:
        """The unit of every frame (frames,); of the layout `ids`, whose lengths nobody knows, the runs alone."""
        return self.ids if self.lengths is None else self.ids.repeat_interleave(self.lengths)

    def streams(self) -> dict[str, Bits]:
        """Give the bits of content, pitch and voice."""
        content = fixed(self.ids.tolist(), width_of(self.clusters))
        if self.lengths is not None:
            content = np.concatenate([content, gamma(self.lengths.tolist())])
        pitch = np.zeros(0, np.uint8) if self.pitch is None else fixed(self.pitch.tolist(), width_of(self.pitches))
        voice = np.zeros(0, np.uint8)
        if self.timbre is not None:
            numbers = torch.cat([torch.tensor([math.log(self.level)]), self.timbre.float()]).half().numpy()
            voice = np.unpackbits(np.frombuffer(numbers.astype("<f2").tobytes(), np.uint8))
        return {"content": content, "pitch": pitch, "voice": voice}

    def to_bytes(self) -> bytes:
        """Give the file."""
        bands = 0 if self.timbre is None else len(self.timbre)
        head = HEAD.pack(
            *(MAGIC, VERSION, LAYOUTS.index(self.layout), self.pitches, bands, bytes.fromhex(self.codec)),
            *(self.clusters - 1, self.samples, len(self.ids)),
        )
        told = head + to_bytes(*self.streams().values())
        return told + struct.pack("<I", zlib.crc32(told))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Units":
        """Read what `to_bytes` gave; anything else is refused with a `ValueError`."""
        told, crc = data[:-4], data[-4:]
        if len(told) < HEAD.size or data[:4] != MAGIC:
            raise ValueError("it does not begin as .units files do")
        if struct.pack("<I", zlib.crc32(told)) != crc:
            raise ValueError("it is damaged, or cut off")
        _, version, layout, pitches, bands, codec, clusters, samples, count = HEAD.unpack_from(told)
        if version != VERSION:
            raise ValueError(f"its version is {version}, and this program reads {VERSION}")
        if layout >= len(LAYOUTS) or not 0 < samples <= LONGEST or not 0 < count <= -(-samples // HOP):
            raise ValueError(f"its layout {layout}, {samples} samples and {count} numbers do not agree")
        reader = Reader(told[HEAD.size :])
        ids = torch.from_numpy(reader.fixed(count, width_of(clusters + 1)))
        lengths = torch.from_numpy(reader.gamma(count)) if LAYOUTS[layout] == "runs" else None
        known = {"layout": LAYOUTS[layout], "lengths": lengths, "pitches": pitches}
        if pitches:
            moments = moments_of(-(-samples // HOP), count, LAYOUTS[layout], pitches)
            known["pitch"] = torch.from_numpy(reader.fixed(moments, width_of(pitches)))
        if bands:
            voice = np.packbits(reader.bits(16 * (1 + bands))).view("<f2").astype(np.float32)
            known |= {"level": math.exp(min(float(voice[0]), 20.0)), "timbre": torch.from_numpy(voice[1:])}
        reader.end()
        return cls(codec.hex(), clusters + 1, samples, ids, **known)

    def save(self, path: str | Path) -> Path:
        """Write the file, whole or not at all."""
        path = Path(path)
        with replacing(path) as part:
            part.write_bytes(self.to_bytes())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Units":
        """Read what `save` wrote; anything else is refused."""
        try:
            return cls.from_bytes(Path(path).read_bytes())
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}).") from None
        except ValueError as error:
            raise ValueError(f"{path} is no file of units that this version reads: {error}.") from None


def moments_of(frames: int, numbers: int, layout: str, pitches: int) -> int:
    """Tell how many numbers of pitch there are beside so many frames and ids."""
    if pitches == BYTES:
        return frames
    return numbers if layout == "ids" else -(-frames // BLOCK)
