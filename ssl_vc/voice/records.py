"""What a voice's file says of its recordings: the clips, their F0 and their quality."""

from dataclasses import dataclass, fields
from typing import Any

from ssl_vc.features.extractor import FrameSpec

HUGE = 1e15  # no number in a file is
FORMER_NAMES = {"strangers": "outlier_clips", "reach": "distance_p95"}  # of findings in older files


@dataclass(frozen=True)
class Origin:
    """A clip that a voice was built from.

    Attributes:
        name: of the file, or its number where it was no file.
        sha256: of the file's bytes, or of the samples.
        seconds: duration after trimming.
        frames: number of frames it contributes.
    """

    name: str
    sha256: str
    seconds: float
    frames: int


@dataclass(frozen=True)
class PitchRange:
    """F0 of a voice's voiced frames, in Hz.

    Attributes:
        median: of F0.
        low: 5th percentile.
        high: 95th percentile.
        voiced: share of the frames that are voiced.
    """

    median: float
    low: float
    high: float
    voiced: float


@dataclass(frozen=True)
class Findings:
    """Measurements of the recordings, taken when a voice is built; see `ssl_vc.voice.quality`.

    Attributes:
        clipped: share of clipped samples.
        noise: level of the speech above the pauses in dB; None without pauses.
        outlier_clips: names of the clips that sound like another speaker.
        distance_p95: 95th percentile of the distance from a frame to its nearest other; 0 if unknown.
    """

    clipped: float
    noise: float | None
    outlier_clips: tuple[str, ...]
    distance_p95: float


def parse_metadata(metadata: Any) -> dict[str, Any]:
    """Return a file's metadata as arguments of `Voice`; raises ValueError if they are invalid."""
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is not a JSON object")
    origins, pitch, findings = metadata.pop("origins"), metadata.pop("pitch"), metadata.pop("findings")
    if findings:
        findings = {FORMER_NAMES.get(name, name): value for name, value in dict(findings).items()}
        findings["outlier_clips"] = tuple(str(name) for name in findings["outlier_clips"])
    arguments = {
        "spec": FrameSpec(**metadata.pop("spec")),
        "origins": tuple(Origin(**origin) for origin in origins),
        "pitch": pitch and PitchRange(**pitch),
        "findings": findings and Findings(**findings),
        "synthesis_spec": metadata.pop("made_by"),
        **metadata,
    }
    _check_types(arguments["spec"], "spec")
    for origin in arguments["origins"]:
        _check_types(origin, "an origin")
    for key in ("pitch", "findings"):
        if arguments[key]:
            _check_types(arguments[key], key)
    for key, kind in (("name", str), ("note", str), ("synthesis_spec", dict | None)):
        if not isinstance(arguments[key], kind):
            raise ValueError(f"its {key} is {arguments[key]!r}")
    return arguments


def _check_types(record: Any, what: str) -> None:
    """Raise ValueError for fields of a wrong type or range."""
    for field in fields(record):
        value: Any = getattr(record, field.name)
        allowed: dict[Any, Any] = {str: str, int: int, bool: bool, float: int | float, float | None: int | float | None}
        least = 1e-9 if what == "pitch" or field.name in ("sample_rate", "hop_length") else 0
        if not isinstance(value, allowed.get(field.type, tuple)) or (
            isinstance(value, int | float) and not least <= value < HUGE
        ):
            raise ValueError(f"the {field.name} of {what} is {value!r}")
