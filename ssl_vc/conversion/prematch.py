"""Prematching: training pairs for vocoders of what they will read in conversions and the waveform they should generate.

Baas, van Niekerk and Kamper, 2023, "Voice Conversion With Just Nearest Neighbors", arXiv 2305.18975: every frame of a
clip is replaced by the mean of its nearest neighbours among the same speaker's other clips. So a vocoder is trained on
frames as blurred as those of a conversion, with the true waveform as the reference.

Here the number of neighbours, the weight of matched frames and the amount of reference vary from clip to clip, as they
do in use.

A clip may have a source (see `pretrain.data.manifest.Clip`): the same words at the same times in another voice. Then
the source is converted to the voice of the clip's speaker, and the reference is the clip:

    source --> query, prosody, content ---+--> vocoder input        clip --> vocoder output
    the speaker's other clips --> pool ---+

Parallel speech (`ssl-vc make-parallel`) gives sources to all of its clips: see `draw_sources`.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pretrain.data.manifest import (
    READ_ERRORS,
    Clip,
    decode,
    decode_input,
    log_skipped,
    parallel_clips,
    sources_fingerprint,
)
from ssl_vc.conversion.blending import blend_matches
from ssl_vc.conversion.prosody import ProsodyTransfer
from ssl_vc.features.analysis import Analysis
from ssl_vc.features.extractor import Extractor
from ssl_vc.features.frame_files import frames_path, open_folder, write_frames, write_table
from ssl_vc.features.layout import FrameLayout
from ssl_vc.match.knn import KNN
from ssl_vc.match.protocol import Pool

LEAST = 5.0  # seconds of other clips, below which frames are kept unmatched, or a clip with a source is skipped


@dataclass(frozen=True)
class PrematchConfig:
    """How clips are matched with their speakers' other clips. Ranges are inclusive.

    Clips with a source are always fully matched: a blend would contain the source's voice, and the reference does not.

    Attributes:
        neighbours: range of the number of neighbours averaged.
        blend: range of the weight of matched frames in blended clips.
        mixed: share of the clips that are blended; the others are fully matched.
        own: share of the clips that keep their own frames, so that copy synthesis is trained too.
        reference: range of the seconds of other clips to match with, as far as there are that many.
        seed: random seed.
    """

    neighbours: tuple[int, int] = (1, 8)
    blend: tuple[float, float] = (0.0, 1.0)
    mixed: float = 0.25
    own: float = 0.0
    reference: tuple[float, float] = (20.0, 300.0)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("neighbours", 1), ("blend", 0), ("reference", LEAST)):
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise ValueError(f"{name} goes from {low} to {high}; give two ascending numbers of at least {least:g}.")
        for name in ("mixed", "own"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a share, from 0 to 1.")


class _AnalyzedClip(NamedTuple):
    clip: Clip
    query: Tensor  # (frames, dim)
    vocoder: Tensor  # (frames, other dim)


def prematch(
    clips: Sequence[Clip],
    folder: str | Path,
    extractor: Extractor,
    analysis: Analysis,
    layout: FrameLayout | None = None,
    config: PrematchConfig | None = None,
) -> Iterator[Clip]:
    """Write `folder/KEY.safetensors` of every clip, then `folder/clips.tsv`; yield each clip when it is finished.

    Clips without other speech of their speaker keep their own frames, but those with a source are skipped. Existing
    files are kept.

    Args:
        clips: of any speakers; each clip without a speaker's name counts as a speaker of its own.
        folder: of the output.
        extractor: computes the query frames.
        analysis: computes the vocoder's frames.
        layout: of those, to transfer the source's prosody; None for no transfer.
        config: see `PrematchConfig`.
    """
    folder, config = Path(folder), config or PrematchConfig()
    sources = sources_fingerprint(clips)
    resumed = open_folder(folder, [dict(analysis.feature_spec), vars(config), *([sources] if sources else [])])
    matcher = _Prematcher(extractor, analysis, layout, config)
    finished: list[Clip] = []
    for _, group in groupby(sorted(clips, key=_speaker), key=_speaker):
        speakers_clips = list(group)
        existing = {clip.key for clip in speakers_clips if resumed and frames_path(folder, clip).is_file()}
        if len(existing) < len(speakers_clips):
            speakers_clips = matcher.write_speaker(speakers_clips, folder, existing)
        finished += speakers_clips
        yield from speakers_clips
    log_skipped(matcher.skipped)
    if not finished:
        first = (matcher.skipped or ["there are none"])[0]
        raise ValueError(f"none of {len(clips)} clips can be used; the first: {first}.")
    write_table(folder, finished)


def draw_sources(clips: Sequence[Clip], share: float = 1.0, seed: int = 0) -> list[Clip]:
    """Return the clips, a share of those with parallel clips in other voices with a random one of these as source."""
    if not 0 <= share <= 1:
        raise ValueError(f"parallel is {share}; it is a share, from 0 to 1.")
    drawn = []
    for clip, group in zip(clips, parallel_clips(clips), strict=True):
        others = [clips[index].path for index in group if clips[index].speaker != clip.speaker]
        chance = random.Random(f"{seed} {clip.key} source")
        if clip.source is None and others and chance.random() < share:
            clip = clip._replace(source=chance.choice(others))
        drawn.append(clip)
    return drawn


def _speaker(clip: Clip) -> tuple[str, str]:
    return clip.speaker, "" if clip.speaker else clip.key


@dataclass
class _Prematcher:
    """Prematch the clips of one speaker after the other, and collect the reasons why clips are skipped."""

    extractor: Extractor
    analysis: Analysis
    layout: FrameLayout | None
    config: PrematchConfig
    skipped: list[str] = field(default_factory=list)

    def write_speaker(self, clips: Sequence[Clip], folder: Path, existing: set[str]) -> list[Clip]:
        """Write the missing frames of one speaker's clips; return the clips that have frames."""
        analyzed, written = self._analyze(clips), []
        for target in analyzed:
            if target.clip.key not in existing:
                frames = self._prematch(target, analyzed)
                if frames is None:
                    continue
                write_frames(frames_path(folder, target.clip), frames, self.analysis.feature_spec)
            written.append(target.clip)
        return written

    @torch.no_grad()
    def _analyze(self, clips: Iterable[Clip], *, sources: bool = False) -> list[_AnalyzedClip]:
        """Return the frames of all readable clips, or of their sources."""
        analyzed = []
        for clip in clips:
            try:
                wav = torch.from_numpy(decode_input(clip) if sources else decode(clip.path))
                query = self.extractor(wav, every_hop=True)
            except READ_ERRORS as error:  # one bad file never stops the rest
                self.skipped.append(f"{clip.key} ({str(error).splitlines()[0]})")
                continue
            analyzed.append(_AnalyzedClip(clip, query.cpu().half(), self.analysis.compute(wav, query).half()))
        return analyzed

    @torch.no_grad()
    def _prematch(self, target: _AnalyzedClip, clips: Sequence[_AnalyzedClip]) -> Tensor | None:
        """Return one clip's frames as a conversion to its own speaker's voice would; None to skip it."""
        config, chance = self.config, random.Random(f"{self.config.seed} {target.clip.key}")
        reference, seconds = self._choose_reference(target, clips, chance)
        k = chance.randint(*config.neighbours)
        weight = chance.uniform(*config.blend) if chance.random() < config.mixed else 1.0
        if target.clip.source is None:
            if seconds < LEAST or chance.random() < config.own:
                return target.vocoder.float()
            return self._convert(target, reference, k, weight)
        if seconds < LEAST:
            self.skipped.append(f"{target.clip.key} (there are only {seconds:.1f} s of its speaker's other clips)")
            return None
        # only now, or the sources of all of a speaker's clips would be held in memory beside these
        sources = self._analyze([target.clip], sources=True)
        return self._convert(sources[0], reference, k, 1.0) if sources else None

    def _choose_reference(
        self, target: _AnalyzedClip, clips: Sequence[_AnalyzedClip], chance: random.Random
    ) -> tuple[list[_AnalyzedClip], float]:
        """Return random other clips and their duration in seconds."""
        others = [other for other in clips if other is not target]
        chance.shuffle(others)
        seconds, wanted = 0.0, chance.uniform(*self.config.reference)
        reference: list[_AnalyzedClip] = []
        for other in others:
            if seconds < wanted:
                reference.append(other)
                seconds += len(other.query) / 50
        return reference, seconds

    def _convert(self, source: _AnalyzedClip, reference: Sequence[_AnalyzedClip], k: int, weight: float) -> Tensor:
        device = self.extractor.device
        query, own = source.query.float().to(device), source.vocoder.float().to(device)
        target = torch.cat([other.vocoder for other in reference]).to(device)
        pool = Pool(torch.cat([other.query for other in reference]).to(device), target)
        # the reference waveform has the source's F0, so that is not shifted to the speaker's median
        prosody = None if self.layout is None else ProsodyTransfer(self.layout, None, target, 0.0)
        return torch.cat([chunk.cpu() for chunk in blend_matches(KNN(k)([query], pool), [own], prosody, weight)])
