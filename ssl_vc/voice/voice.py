"""Voice: a target speaker as one portable file that knows what made it.

The file is safetensors: the tensor `frames`, the tensor `synthesis` where the vocoder reads other frames than those
that are matched, and in the metadata, as JSON, all the rest.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ssl_vc.features.extractor import FrameSpec
from ssl_vc.files import replacing
from ssl_vc.match.knn import average
from ssl_vc.match.protocol import Pool

FORMAT = "ssl-vc voice 1"
BLOCK = 4096  # frames mixed at a time
NEIGHBOURS = 4  # of a frame in the other voices, when voices are mixed
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Origin:
    """A clip that a voice was made of.

    Attributes:
        name: of the file, or what was given.
        sha256: of the file's bytes, or of the samples of what was no file.
        seconds: how long what was kept of it lasts.
        frames: how many frames of the voice are of it.
    """

    name: str
    sha256: str
    seconds: float
    frames: int


@dataclass(frozen=True)
class PitchRange:
    """F0 of a voice where it is voiced, in Hz.

    Attributes:
        median: half of it is above.
        low: 5 percent are below.
        high: 5 percent are above.
        voiced: share of the frames that are voiced.
    """

    median: float
    low: float
    high: float
    voiced: float


@dataclass(frozen=True)
class Findings:
    """What was found in the recordings when a voice was built; see `ssl_vc.voice.quality`.

    Attributes:
        clipped: share of the samples that stand in flat tops near the peak.
        noise: how many dB the pauses are below the speech; None where there is no pause.
        strangers: names of the clips that sound like another speaker.
        reach: 95th percentile of the distance from a frame of the voice to the nearest of the others; 0 if unknown.
    """

    clipped: float
    noise: float | None
    strangers: tuple[str, ...]
    reach: float


@dataclass(frozen=True, eq=False)
class Voice:
    """A target speaker: frames, and what made them.

    Attributes:
        frames: what a source's frames are compared with (frames, dim), float16, or what `stored` gave.
        spec: what made them.
        name: how the voice is called.
        origins: the clips that it was made of, in the frames' order.
        synthesis: what the vocoder reads in their place (frames, other dim); None if it reads the frames themselves.
        made_by: what made that, as vocoders check it; None as well.
        pitch: F0; None if nothing is voiced.
        findings: what was found in the recordings; None if nobody looked.
        note: licence, consent, whatever a user of the voice should know.
    """

    frames: Tensor
    spec: FrameSpec
    name: str = "voice"
    origins: tuple[Origin, ...] = ()
    synthesis: Tensor | None = None
    made_by: Mapping[str, Any] | None = None
    pitch: PitchRange | None = None
    findings: Findings | None = None
    note: str = ""

    def __post_init__(self) -> None:
        rows, problem = len(self.frames), ""
        if self.frames.ndim != 2 or not rows or self.frames.shape[1] != self.spec.dim:
            problem = f"frames of the shape {tuple(self.frames.shape)}; it should be (frames, {self.spec.dim})"
        elif (self.synthesis is None) != (self.made_by is None):
            problem = "frames for synthesis without what made them, or the other way round"
        elif self.synthesis is not None and (self.synthesis.ndim != 2 or len(self.synthesis) != rows):
            problem = f"{tuple(self.synthesis.shape)} numbers for synthesis beside {rows} frames"
        elif sum(origin.frames for origin in self.origins) not in (0, rows):
            problem = f"{rows} frames, and its clips {sum(origin.frames for origin in self.origins)}"
        elif not self.name.isprintable():
            problem = "a name that cannot be printed"
        elif not all(bool(part.isfinite().all()) for part in (self.frames, self.synthesis) if part is not None):
            problem = "frames that are NaN or infinite"
        if problem:
            raise ValueError(f"the voice {self.name!r} has {problem}; build it again.")

    @property
    def seconds(self) -> float:
        """How much speech it holds."""
        return len(self.frames) * self.spec.hop_length / self.spec.sample_rate

    @property
    def reads(self) -> Mapping[str, Any]:
        """What its frames for synthesis are, as vocoders check it."""
        return self.spec.facts if self.made_by is None else self.made_by

    def pool(self, device: torch.device | str = "cpu", *, approximate: bool = False) -> Pool:
        """Give its frames ready to be searched."""
        synthesis = None if self.synthesis is None else self.synthesis.to(device)
        clips = [origin.frames for origin in self.origins if origin.frames] or None
        return Pool(self.frames.to(device), synthesis, clips, approximate=approximate)

    def save(self, path: str | Path) -> Path:
        """Write the voice to one file, whole or not at all."""
        path = Path(path)
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: facts.pop(name) for name in ("frames", "synthesis") if facts[name] is not None}
        facts.pop("synthesis", None)
        facts |= {"spec": asdict(self.spec), "origins": [asdict(origin) for origin in self.origins]}
        facts |= {name: facts[name] and asdict(facts[name]) for name in ("pitch", "findings")}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        try:
            with replacing(path) as temporary:
                save_file(tensors, temporary, {"format": FORMAT, "voice": json.dumps(facts)})
        except (OSError, SafetensorError) as error:
            raise OSError(f"{path} cannot be written ({error}); check the folder, its permissions and disk.") from None
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a voice that `save` wrote; anything else is refused."""
        if not Path(path).is_file():
            raise ValueError(f"there is no voice {str(path)!r}; `ssl-vc voice build` makes one.")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"its format is {metadata.get('format')!r}")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if not {"frames"} <= tensors.keys() <= {"frames", "synthesis"}:
                raise ValueError(f"it holds {', '.join(sorted(tensors)) or 'nothing'}")
            for name, tensor in tensors.items():
                if tensor.dtype not in DTYPES.values():
                    raise ValueError(f"its {name} are of the kind {tensor.dtype}")
            return cls(**tensors, **_facts(json.loads(metadata["voice"])))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{path} is no voice that this version reads: {reason.removesuffix('.')}.") from None

    @classmethod
    def mix(cls, parts: "Sequence[tuple[Voice, float]]", name: str = "") -> "Voice":
        """Mix voices: every frame of each becomes a weighted mean of itself and of its nearest ones in the others.

        Args:
            parts: two or more (voice, weight); weights are positive, and count beside their sum.
            name: of the mixture; made of the names if empty.
        """
        if len(parts) < 2 or not all(weight > 0 and math.isfinite(weight) for _, weight in parts):
            weights = [weight for _, weight in parts]
            raise ValueError(f"the weights are {weights}; mixing takes two or more voices, each with a positive one.")
        first, total = parts[0][0], sum(weight for _, weight in parts)
        for voice, _ in parts[1:]:
            first.spec.require(voice.spec, f"the voice {voice.name!r}")
            if dict(voice.reads) != dict(first.reads):
                raise ValueError(
                    f"the voices {first.name!r} and {voice.name!r} are for different vocoders; build one of them again."
                )
        voices, shares = [voice for voice, _ in parts], [weight / total for _, weight in parts]
        named = [f"{share:.0%} {voice.name}" for voice, share in zip(voices, shares, strict=True)]
        mixed = stored(torch.cat([_mixed(voice, voices, shares) for voice in voices]))
        return cls(
            mixed[:, : first.spec.dim].contiguous(),
            first.spec,
            name or " + ".join(named),
            tuple(origin for voice in voices for origin in voice._clips()),
            None if first.synthesis is None else mixed[:, first.spec.dim :].contiguous(),
            first.made_by,
            _mixed_pitch(voices, shares),
            note="\n".join(f"{which}: {voice.note or '-'}" for which, voice in zip(named, voices, strict=True)),
        )

    def _clips(self) -> tuple[Origin, ...]:
        """Its origins, one for all frames where nothing is known of them."""
        return self.origins or (Origin(self.name, "", self.seconds, len(self.frames)),)


def stored(frames: Tensor) -> Tensor:
    """Give frames as a voice keeps them: float16, or bfloat16 where a number is too large for it."""
    half = frames.half()
    return half if bool(half.isfinite().all()) else frames.bfloat16()


def _facts(facts: Any) -> dict[str, Any]:
    """Check what a file says of a voice, and give it as `Voice` takes it."""
    if not isinstance(facts, dict):
        raise ValueError("its metadata is no JSON object")
    origins, pitch, findings = facts.pop("origins"), facts.pop("pitch"), facts.pop("findings")
    if findings:
        findings["strangers"] = tuple(str(name) for name in findings["strangers"])
    made = {
        "spec": FrameSpec(**facts.pop("spec")),
        "origins": tuple(Origin(**origin) for origin in origins),
        "pitch": pitch and PitchRange(**pitch),
        "findings": findings and Findings(**findings),
        **facts,
    }
    _check_kinds(made["spec"], "spec")
    for origin in made["origins"]:
        _check_kinds(origin, "an origin")
    for key in ("pitch", "findings"):
        if made[key]:
            _check_kinds(made[key], key)
    for key, kind in (("name", str), ("note", str), ("made_by", dict | None)):
        if not isinstance(made[key], kind):
            raise ValueError(f"its {key} is {made[key]!r}")
    return made


def _check_kinds(part: Any, what: str) -> None:
    """Refuse what a file says if it is not of the kind that it should be."""
    for field in fields(part):
        value: Any = getattr(part, field.name)
        wanted: dict[Any, Any] = {str: str, int: int, bool: bool, float: int | float, float | None: int | float | None}
        least = 1e-9 if what == "pitch" or field.name in ("sample_rate", "hop_length") else 0
        if not isinstance(value, wanted.get(field.type, tuple)) or (
            isinstance(value, int | float) and not least <= value < math.inf
        ):
            raise ValueError(f"the {field.name} of {what} is {value!r}")


def _mixed(voice: Voice, voices: Sequence[Voice], shares: Sequence[float]) -> Tensor:
    """Give the frames of one voice, and those for synthesis beside them, mixed with their nearest in all the others."""
    pools = [Pool(other.frames, _both(other)) for other in voices]
    blocks = []
    for query, own in zip(voice.frames.split(BLOCK), _both(voice).split(BLOCK), strict=True):
        mixed = torch.zeros(own.shape)
        for other, pool, share in zip(voices, pools, shares, strict=True):
            near = own if other is voice else average(pool.synthesis, pool.nearest(query.float(), NEIGHBOURS).index)
            mixed += share * near.float()
        blocks.append(mixed)
    return torch.cat(blocks)


def _both(voice: Voice) -> Tensor:
    return voice.frames if voice.synthesis is None else torch.cat([voice.frames, voice.synthesis], 1)


def _mixed_pitch(voices: Sequence[Voice], shares: Sequence[float]) -> PitchRange | None:
    """Give the weighted geometric mean of what is known of the voices' F0."""
    known = [(voice.pitch, share) for voice, share in zip(voices, shares, strict=True) if voice.pitch]
    if not known:
        return None
    total = sum(share for _, share in known)

    def mean(name: str) -> float:
        return math.exp(sum(share * math.log(max(getattr(pitch, name), 1e-3)) for pitch, share in known) / total)

    return PitchRange(*(mean(field.name) for field in fields(PitchRange)))
