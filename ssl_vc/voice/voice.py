"""Voice: a target speaker in one portable file, with its provenance.

The file is safetensors: the tensor `frames`, the tensor `synthesis` where the vocoder reads frames other than those
that are matched, and everything else as JSON in the metadata.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ssl_vc.features.extractor import FrameSpec
from ssl_vc.features.layout import FeatureSpec
from ssl_vc.files import replacing
from ssl_vc.match.knn import average
from ssl_vc.match.protocol import Pool
from ssl_vc.voice.records import Findings as Findings
from ssl_vc.voice.records import Origin as Origin
from ssl_vc.voice.records import PitchRange as PitchRange
from ssl_vc.voice.records import parse_metadata

FORMAT = "ssl-vc voice 1"
BLOCK = 4096  # frames mixed at a time
NEIGHBOURS = 4  # of a frame in the other voices, when voices are mixed
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, eq=False)
class Voice:
    """A target speaker's frames with their provenance.

    Attributes:
        frames: the matching set (frames, dim), in half precision, see `to_half`.
        spec: of the frames.
        name: of the voice.
        origins: the clips that it was built from, in the frames' order.
        synthesis: the vocoder's frames (frames, other dim); None if it reads the matched ones.
        synthesis_spec: of those, as vocoders check it; None as well. Files call it `made_by`.
        pitch: F0; None if nothing is voiced.
        findings: on the recordings; None if they were not examined.
        note: licence, consent and anything else a user of the voice should know.
    """

    frames: Tensor
    spec: FrameSpec
    name: str = "voice"
    origins: tuple[Origin, ...] = ()
    synthesis: Tensor | None = None
    synthesis_spec: FeatureSpec | None = None
    pitch: PitchRange | None = None
    findings: Findings | None = None
    note: str = ""

    def __post_init__(self) -> None:
        rows, problem = len(self.frames), ""
        if self.frames.ndim != 2 or not rows or self.frames.shape[1] != self.spec.dim:
            problem = f"frames of shape {tuple(self.frames.shape)} instead of (frames, {self.spec.dim})"
        elif (self.synthesis is None) != (self.synthesis_spec is None):
            problem = "frames for synthesis without their spec, or vice versa"
        elif self.synthesis is not None and (self.synthesis.ndim != 2 or len(self.synthesis) != rows):
            problem = f"synthesis frames of shape {tuple(self.synthesis.shape)} for {rows} frames"
        elif sum(origin.frames for origin in self.origins) not in (0, rows):
            problem = f"{rows} frames, and its clips {sum(origin.frames for origin in self.origins)}"
        elif not self.name.isprintable():
            problem = "an unprintable name"
        elif not all(bool(part.isfinite().all()) for part in (self.frames, self.synthesis) if part is not None):
            problem = "frames that are NaN or infinite"
        if problem:
            raise ValueError(f"the voice {self.name!r} has {problem}; build it again.")

    def __repr__(self) -> str:
        return f"Voice({self.name!r}, {self.seconds:.1f} s, encoder {self.spec.encoder}, layer {self.spec.layer})"

    @property
    def seconds(self) -> float:
        """Duration of its speech."""
        return len(self.frames) * self.spec.hop_length / self.spec.sample_rate

    @property
    def feature_spec(self) -> FeatureSpec:
        """What the vocoder's frames are, as vocoders check it."""
        return self.spec.feature_spec if self.synthesis_spec is None else self.synthesis_spec

    def pool(self, device: torch.device | str = "cpu", *, approximate: bool = False) -> Pool:
        """Return its frames ready for search."""
        synthesis = None if self.synthesis is None else self.synthesis.to(device)
        clips = [origin.frames for origin in self.origins if origin.frames] or None
        return Pool(self.frames.to(device), synthesis, clips, approximate=approximate)

    def save(self, path: str | Path) -> Path:
        """Write the voice to one file, atomically; return the path."""
        path = Path(path)
        tensors = {"frames": self.frames} | ({} if self.synthesis is None else {"synthesis": self.synthesis})
        metadata = {
            "spec": asdict(self.spec),
            "name": self.name,
            "origins": [asdict(origin) for origin in self.origins],
            "made_by": self.synthesis_spec,
            "pitch": self.pitch and asdict(self.pitch),
            "findings": self.findings and asdict(self.findings),
            "note": self.note,
        }
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(save(tensors, {"format": FORMAT, "voice": json.dumps(metadata)}))
        except (OSError, SafetensorError) as error:
            raise OSError(f"{path} cannot be written ({error}); check the folder, its permissions and disk.") from None
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a voice that `save` wrote; raises ValueError for anything else."""
        if not Path(path).is_file():
            raise ValueError(f"there is no voice {str(path)!r}; `ssl-vc voice build` creates one.")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"its format is {metadata.get('format')!r}")
                # cloned, as they are memory-mapped: the file may change
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            if not {"frames"} <= tensors.keys() <= {"frames", "synthesis"}:
                raise ValueError(f"it contains {', '.join(sorted(tensors)) or 'nothing'}")
            for name, tensor in tensors.items():
                if tensor.dtype not in DTYPES.values():
                    raise ValueError(f"its {name} have the dtype {tensor.dtype}")
            return cls(**tensors, **parse_metadata(json.loads(metadata["voice"])))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{path} is not a voice that this version reads: {reason.removesuffix('.')}.") from None

    @classmethod
    def mix(cls, parts: "Sequence[tuple[Voice, float]]", name: str = "") -> "Voice":
        """Mix voices: every frame of each becomes a weighted mean of itself and its nearest neighbours in the others.

        Args:
            parts: two or more (voice, weight); positive weights, normalised by their sum.
            name: of the mixture; composed of the names if empty.
        """
        if len(parts) < 2 or not all(weight > 0 and math.isfinite(weight) for _, weight in parts):
            weights = [weight for _, weight in parts]
            raise ValueError(f"the weights are {weights}; mixing needs two or more voices with positive weights.")
        first, total = parts[0][0], sum(weight for _, weight in parts)
        for voice, _ in parts[1:]:
            first._require_same_features(voice)
        voices, weights = [voice for voice, _ in parts], [weight / total for _, weight in parts]
        named = [f"{weight:.0%} {voice.name}" for voice, weight in zip(voices, weights, strict=True)]
        mixed = to_half(torch.cat([_mix_frames(voice, voices, weights) for voice in voices]))
        return cls(
            frames=mixed[:, : first.spec.dim].contiguous(),
            spec=first.spec,
            name=name or " + ".join(named),
            origins=tuple(origin for voice in voices for origin in voice._clips()),
            synthesis=None if first.synthesis is None else mixed[:, first.spec.dim :].contiguous(),
            synthesis_spec=first.synthesis_spec,
            pitch=_mix_pitch(voices, weights),
            note="\n".join(f"{label}: {voice.note or '-'}" for label, voice in zip(named, voices, strict=True)),
        )

    def _require_same_features(self, other: "Voice") -> None:
        self.spec.require(other.spec, f"the voice {other.name!r}")
        widths = {_all_frames(each).shape[1] for each in (self, other)}
        if dict(other.feature_spec) != dict(self.feature_spec) or len(widths) > 1:
            raise ValueError(
                f"the voices {self.name!r} and {other.name!r} are for different vocoders; build one of them again."
            )

    def _clips(self) -> tuple[Origin, ...]:
        """Return its origins; one for all frames where they are unknown."""
        return self.origins or (Origin(self.name, "", self.seconds, len(self.frames)),)


def to_half(frames: Tensor) -> Tensor:
    """Return frames in a voice's precision: float16, or bfloat16 where a value exceeds its range."""
    half = frames.half()
    return half if bool(half.isfinite().all()) else frames.bfloat16()


def _mix_frames(voice: Voice, voices: Sequence[Voice], weights: Sequence[float]) -> Tensor:
    """Return the frames of one voice, beside those for synthesis, mixed with their neighbours in all others."""
    pools = [Pool(other.frames, _all_frames(other)) for other in voices]
    blocks = []
    for query, own in zip(voice.frames.split(BLOCK), _all_frames(voice).split(BLOCK), strict=True):
        mixed = torch.zeros(own.shape)
        for other, pool, weight in zip(voices, pools, weights, strict=True):
            near = own if other is voice else average(pool.synthesis, pool.nearest(query.float(), NEIGHBOURS).index)
            mixed += weight * near.float()
        blocks.append(mixed)
    return torch.cat(blocks)


def _all_frames(voice: Voice) -> Tensor:
    return voice.frames if voice.synthesis is None else torch.cat([voice.frames, voice.synthesis], 1)


def _mix_pitch(voices: Sequence[Voice], weights: Sequence[float]) -> PitchRange | None:
    """Return the weighted geometric mean of the voices' known F0."""
    known = [(voice.pitch, weight) for voice, weight in zip(voices, weights, strict=True) if voice.pitch]
    if not known:
        return None
    total = sum(weight for _, weight in known)

    def mean(name: str) -> float:
        return math.exp(sum(weight * math.log(max(getattr(pitch, name), 1e-3)) for pitch, weight in known) / total)

    return PitchRange(*(mean(field.name) for field in fields(PitchRange)))
