"""`.units`: speech at a few hundred bits per second, in a file that names its codec.

    | SVCU | version | layout | pitch levels | bands | codec | clusters - 1 | samples | number of ids |
    | ids, packed | lengths of runs, gamma-coded | pitch, packed | voice: log median F0 and timbre, as float16 |
    | CRC-32 of all that |

Layouts: `frames`, an id per frame; `runs`, an id and a length per run of equal ids; `ids`, the ids of the runs alone,
whose lengths the decoder predicts. Pitch is a code per block of four frames (per run in `ids`), a byte per frame, or
absent.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ssl_vc.audio import MAX_SECONDS, SAMPLE_RATE
from ssl_vc.files import replacing, require_file
from ssl_vc.units.bits import BitReader, Bits, fixed, gamma, to_bytes, width_of

Layout = Literal["frames", "runs", "ids"]
LAYOUTS: tuple[Layout, ...] = ("frames", "runs", "ids")

MAGIC, VERSION = b"SVCU", 1
HEAD = struct.Struct("<4sBBHB8sHII")
HOP = 320  # samples per frame at 16 kHz
BYTES = 256  # pitch levels of a byte per frame
BLOCK = 4  # frames per pitch code: 12.5 Hz
LONGEST_RUN = 3000  # frames: one minute; longer runs are divided
MAX_SAMPLES = round(MAX_SECONDS * SAMPLE_RATE)
MAX_BYTES = 2**24  # of a file; six hours take less than 4 MB
MAX_CLUSTERS = 2**16


@dataclass(frozen=True, eq=False, kw_only=True)
class Units:
    """Discrete units of an utterance, with or without pitch and voice.

    Attributes:
        codec: fingerprint of the codec that encoded them, 16 hexadecimal digits.
        clusters: number of units of the codec.
        samples: length of the waveform at 16 kHz.
        ids: a unit per frame, or per run (ids,), int64.
        lengths: frames of each run (ids,); None in other layouts than `runs`.
        layout: `frames`, `runs` or `ids`.
        pitch: codes, or a byte per frame, 0 for unvoiced (values,); None if absent.
        pitch_levels: number of different codes; 256 for bytes, 0 without pitch.
        median_f0: in Hz; 0 without a voice.
        timbre: mean envelope of the voice (bands,); None without a voice.
    """

    codec: str
    clusters: int
    samples: int
    ids: Tensor
    lengths: Tensor | None = None
    layout: Layout = "frames"
    pitch: Tensor | None = None
    pitch_levels: int = 0
    median_f0: float = 0.0
    timbre: Tensor | None = None

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(f"these units have {problem}.")

    def _problem(self) -> str:
        if self.layout not in LAYOUTS:
            return f"the layout {self.layout!r}; possible are {', '.join(LAYOUTS)}"
        if not 0 < self.samples <= MAX_SAMPLES:
            return f"{self.samples} samples; possible are 1 to {MAX_SAMPLES}"
        if not 2 <= self.clusters <= MAX_CLUSTERS:
            return f"{self.clusters} clusters; possible are 2 to {MAX_CLUSTERS}"
        if not len(self.ids) or int(self.ids.min()) < 0 or int(self.ids.max()) >= self.clusters:
            return f"no ids, or ids outside of {self.clusters} clusters"
        if (self.lengths is not None) != (self.layout == "runs"):
            return f"the layout {self.layout} {'without' if self.lengths is None else 'with'} lengths of runs"
        if self.lengths is not None and (len(self.lengths) != len(self.ids) or int(self.lengths.min()) < 1):
            return "lengths that are not positive, or not one per run"
        if self.frames > LONGEST_RUN * len(self.ids):
            return f"{len(self.ids)} ids for {self.samples} samples; an id lasts one minute at most"
        frames = len(self.ids) if self.lengths is None else int(self.lengths.sum())
        if frames != self.frames and (self.layout != "ids" or frames > self.frames):
            return f"{frames} frames, and {self.samples} samples, which make {self.frames}"
        if (self.pitch is None) != (self.pitch_levels == 0):
            return f"{self.pitch_levels} pitch levels, and {'no' if self.pitch is None else 'some'} pitch"
        if self.pitch is not None and (
            len(self.pitch) != self.pitch_length or int(self.pitch.max()) >= self.pitch_levels
        ):
            highest = int(self.pitch.max())
            return f"{len(self.pitch)} pitch values up to {highest}, not {self.pitch_length} below {self.pitch_levels}"
        if self.timbre is not None and not (self.median_f0 > 0 and bool(self.timbre.isfinite().all())):
            return "a voice without a median F0, or with values that are not finite"
        return ""

    @property
    def frames(self) -> int:
        """Number of frames of 20 ms; the last may be partial."""
        return -(-self.samples // HOP)

    @property
    def pitch_length(self) -> int:
        """Number of pitch values that pitch must have."""
        return pitch_length(self.frames, len(self.ids), self.layout, self.pitch_levels)

    @property
    def every_frame(self) -> Tensor:
        """Unit of every frame (frames,); in the layout `ids`, which has no lengths, of every run."""
        return self.ids if self.lengths is None else self.ids.repeat_interleave(self.lengths)

    def streams(self) -> dict[str, Bits]:
        """Returns the bits of content, pitch and voice."""
        content = fixed(self.ids.tolist(), width_of(self.clusters))
        if self.lengths is not None:
            content = np.concatenate([content, gamma(self.lengths.tolist())])
        pitch, voice = np.zeros(0, np.uint8), np.zeros(0, np.uint8)
        if self.pitch is not None:
            pitch = fixed(self.pitch.tolist(), width_of(self.pitch_levels))
        if self.timbre is not None:
            values = torch.cat([torch.tensor([math.log(self.median_f0)]), self.timbre.float()]).half().numpy()
            voice = np.unpackbits(np.frombuffer(values.astype("<f2").tobytes(), np.uint8))
        return {"content": content, "pitch": pitch, "voice": voice}

    def to_bytes(self) -> bytes:
        """Returns the content of the file."""
        bands = 0 if self.timbre is None else len(self.timbre)
        head = HEAD.pack(
            *(MAGIC, VERSION, LAYOUTS.index(self.layout), self.pitch_levels, bands, bytes.fromhex(self.codec)),
            *(self.clusters - 1, self.samples, len(self.ids)),
        )
        data = head + to_bytes(*self.streams().values())
        return data + struct.pack("<I", zlib.crc32(data))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Units":
        """Parse what `to_bytes` returned; raises `ValueError` on anything else."""
        data, crc = data[:-4], data[-4:]
        if len(data) < HEAD.size or data[:4] != MAGIC:
            raise ValueError("it does not begin as .units files do")
        if struct.pack("<I", zlib.crc32(data)) != crc:
            raise ValueError("it is damaged, or cut off")
        _, version, layout, levels, bands, codec, clusters, samples, count = HEAD.unpack_from(data)
        if version != VERSION:
            raise ValueError(f"its version is {version}, and this program reads {VERSION}")
        if layout >= len(LAYOUTS) or not 0 < samples <= MAX_SAMPLES or not 0 < count <= -(-samples // HOP):
            raise ValueError(f"its layout {layout}, {samples} samples and {count} ids are inconsistent")
        reader = BitReader(data[HEAD.size :])
        ids = torch.from_numpy(reader.fixed(count, width_of(clusters + 1)))
        lengths = torch.from_numpy(reader.gamma(count)) if LAYOUTS[layout] == "runs" else None
        optional: dict[str, Any] = {}
        if levels:
            values = pitch_length(-(-samples // HOP), count, LAYOUTS[layout], levels)
            optional["pitch"] = torch.from_numpy(reader.fixed(values, width_of(levels)))
        if bands:
            voice = np.packbits(reader.bits(16 * (1 + bands))).view("<f2").astype(np.float32)
            optional |= {"median_f0": math.exp(min(float(voice[0]), 20.0)), "timbre": torch.from_numpy(voice[1:])}
        reader.end()
        return cls(
            codec=codec.hex(),
            clusters=clusters + 1,
            samples=samples,
            ids=ids,
            lengths=lengths,
            layout=LAYOUTS[layout],
            pitch_levels=levels,
            **optional,
        )

    def save(self, path: str | Path) -> Path:
        """Write the file atomically."""
        path = Path(path)
        with replacing(path) as part:
            part.write_bytes(self.to_bytes())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Units":
        """Read a file that `save` wrote; raises `ValueError` on anything else."""
        try:
            return cls.from_bytes(require_file(path, MAX_BYTES).read_bytes())
        except (OSError, ValueError) as error:
            reason = str(error).removesuffix(".")
            raise ValueError(f"{path} is not a .units file that this version reads: {reason}.") from None


def pitch_length(frames: int, ids: int, layout: str, levels: int) -> int:
    """Returns how many pitch values go with so many frames and ids."""
    if levels == BYTES:
        return frames
    return ids if layout == "ids" else -(-frames // BLOCK)
