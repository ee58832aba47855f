"""Blending matched frames with the source's own on their way to the vocoder, and the diagnostics of a conversion."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_vc.conversion.prosody import ProsodyTransfer
from ssl_vc.features.time_stretch import Regroup
from ssl_vc.match.choice import Choice
from ssl_vc.match.protocol import Jump, Match, blend
from ssl_vc.options import check_range
from ssl_vc.voice import quality
from ssl_vc.voice.voice import Voice


@dataclass(frozen=True, kw_only=True)
class ConversionResult:
    """A converted waveform with diagnostics.

    Attributes:
        wav: (samples,).
        sample_rate: in Hz.
        matcher: the matcher's name.
        reason: a sentence on the choice of the matcher.
        distance: mean cosine distance from the source's frames to their nearest neighbours; None if not searched.
        coverage: share of the source's frames farther from the voice than the voice's own are from each other.
        jump: discontinuity of the vocoder's input, see `ssl_vc.match.protocol.Jump`.
        source_jump: the same of the source's frames, where the vocoder reads the frames that are matched.
        warnings: sentences for the user.
    """

    wav: Tensor
    sample_rate: int
    matcher: str
    reason: str
    distance: float | None
    coverage: float | None
    jump: float
    source_jump: float | None
    warnings: tuple[str, ...]

    @property
    def why(self) -> str:
        """Former name of `reason`."""
        return self.reason


class ConversionStats:
    """Statistics of the frames that stream through a conversion."""

    def __init__(self, on_frames: Callable[[int], None] | None = None) -> None:
        self.query_jump, self.output_jump = Jump(), Jump()
        self._on_frames = on_frames  # called with numbers of output frames
        self._distances: list[Tensor] = []

    def record_query(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pass the source's query frames through."""
        return self._record(self.query_jump, chunks)

    def record_matches(self, matches: Iterable[Match]) -> Iterator[Match]:
        """Pass the matches through."""
        for match in matches:
            self._distances.append(match.distance)
            yield match

    def record_output(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pass the vocoder's input through."""
        for chunk in self._record(self.output_jump, chunks):
            yield chunk
            if self._on_frames is not None:
                self._on_frames(len(chunk))

    def _record(self, jump: Jump, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        for chunk in chunks:
            jump.add(chunk)
            yield chunk

    @property
    def distance(self) -> Tensor:
        """Distances from the source's frames to their nearest neighbours, where those were searched (frames,)."""
        known = torch.cat(self._distances).cpu() if self._distances else torch.empty(0)
        return known[~known.isnan()]


def summarize(
    wav: Tensor, sample_rate: int, voice: Voice, choice: Choice | None, stats: ConversionStats, notes: Sequence[str]
) -> ConversionResult:
    """Return a waveform with its diagnostics; without a choice of a matcher, the source's own frames were used."""
    coverage = quality.coverage(stats.distance, voice.findings)
    return ConversionResult(
        wav=wav,
        sample_rate=sample_rate,
        matcher=choice.name if choice else "none",
        reason=choice.reason if choice else "blend is 0, so these are the source's own frames.",
        distance=float(stats.distance.mean()) if len(stats.distance) else None,
        coverage=coverage,
        jump=stats.output_jump.value,
        source_jump=stats.query_jump.value if voice.synthesis is None and choice else None,
        warnings=(*quality.warnings(voice, coverage), *notes),
    )


def blend_weight(blend: float | Tensor, source_frames: int, frames: int) -> float | Tensor:
    """Return the weight of the matched frames: one number, or one for each output frame (frames, 1).

    Args:
        blend: from 0 to 4; or one number for each frame of the source (source_frames,).
        source_frames: of the source.
        frames: of the output, to which the source is stretched.
    """
    if not isinstance(blend, Tensor):
        check_range("blend", blend, 0, 4)
        return float(blend)
    if blend.shape != (source_frames,) or not bool(((blend >= 0) & (blend <= 4)).all()):
        raise ValueError(
            f"blend is a tensor {tuple(blend.shape)}; give {source_frames} numbers from 0 to 4, one per frame."
        )
    return blend.float()[(torch.arange(frames) * source_frames / frames).long()][:, None]


def is_constant(weight: float | Tensor, value: float) -> bool:
    """Return whether one weight holds for all frames and has this value."""
    return isinstance(weight, float) and weight == value


def blend_matches(
    matches: Iterable[Match] | None,
    source: Iterable[Tensor],
    prosody: ProsodyTransfer | None = None,
    weight: float | Tensor = 1.0,
) -> Iterator[Tensor]:
    """Yield the vocoder's input: matched frames with the source's prosody, interpolated with the source's own frames.

    Args:
        matches: of the source's frames, in order; None for the source's own frames alone.
        source: its own frames for the vocoder; read only where they are needed.
        prosody: of the source; None if the vocoder takes none.
        weight: of the matched frames, see `blend_weight`.
    """
    if matches is None:
        yield from source if prosody is None else map(prosody.transpose, source)
        return
    needed = prosody is not None or not is_constant(weight, 1)
    source_frames, start = Regroup(source), 0
    for match in matches:
        frames, count = match.frames, len(match.frames)
        local = weight[start : start + count].to(frames) if isinstance(weight, Tensor) else weight
        start += count
        own = source_frames.take(count) if needed else None
        if prosody is not None and own is not None:
            frames = prosody.apply(frames, own)
        frames = blend(frames, own, local)
        yield frames if prosody is None else prosody.transpose(frames)
