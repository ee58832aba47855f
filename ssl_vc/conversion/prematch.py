"""Prematching: what a vocoder will get in conversions, beside the sound that it should make of it.

Baas, van Niekerk and Kamper, 2023, "Voice Conversion With Just Nearest Neighbors", arXiv 2305.18975: every frame of a
clip is replaced by the mean of its nearest ones among the same speaker's other clips. So a vocoder learns on frames as
blurred as those of a conversion, and yet knows the true sound.

Here the number of neighbours, the share of matched frames and the length of the reference differ from clip to clip, for
users choose them too.

A clip may have a source (see `pretrain.data.manifest.Clip`): the same words at the same times in another voice. Then it
is the source that is converted into the voice of the clip's speaker, and the true sound is the clip:

    source --> query, melody, content ---+--> what the vocoder reads        clip --> the sound that it should make
    the speaker's other clips --> pool --+
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pretrain.data.manifest import BROKEN, Clip, decode, decode_heard, name_left_out, sources_of
from ssl_vc.conversion.blending import Tally, mixed
from ssl_vc.conversion.prosody import Melody
from ssl_vc.features.analysis import Analysis
from ssl_vc.features.extractor import Extractor
from ssl_vc.features.frame_files import begin, file_of, write_frames, write_table
from ssl_vc.features.layout import Parts
from ssl_vc.match.knn import KNN
from ssl_vc.match.protocol import Pool

LEAST = 5.0  # seconds of other clips, without which frames stay as they are, or a clip with a source is left out


@dataclass(frozen=True)
class PrematchConfig:
    """How clips are matched with their speakers' others. Ranges are from .. to, both included.

    Clips with a source are always matched wholly: a mixture has a share of the source's voice, and the sound that is to
    come of it has none.

    Attributes:
        neighbours: how many are averaged.
        blend: of the clips whose frames are mixed, the share of the matched ones.
        mixed: how many of the clips are mixed like that; the others are matched wholly.
        own: how many of the clips keep their own frames, so that copies of a sound are learned too.
        reference: seconds of other clips that are searched, as far as there are so many.
        seed: of all that is chosen.
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
                raise ValueError(f"{name} goes from {low} to {high}; give two numbers in order, from {least:g} on.")
        for name in ("mixed", "own"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a share, from 0 to 1.")


class _Heard(NamedTuple):
    clip: Clip
    matched: Tensor  # what is compared (frames, dim)
    spoken: Tensor  # what the vocoder reads (frames, other dim)


def prematch(
    clips: Sequence[Clip],
    folder: str | Path,
    extractor: Extractor,
    analysis: Analysis,
    parts: Parts | None = None,
    config: PrematchConfig | None = None,
) -> Iterator[Clip]:
    """Write `folder/KEY.safetensors` of every clip, then `folder/clips.tsv`; gives each clip when it is done.

    Clips without other speech of their speaker keep their own frames, but those with a source are left out. What is
    there already is left as it is.

    Args:
        clips: of any speakers; those without a name are taken for a speaker each.
        folder: where to.
        extractor: makes the frames that are compared.
        analysis: makes what the vocoder reads.
        parts: of that, where the source's melody goes along; None where nothing does.
        config: see `PrematchConfig`.
    """
    folder, config = Path(folder), config or PrematchConfig()
    sources = sources_of(clips)
    kept = begin(folder, [dict(analysis.made_by), vars(config), *([sources] if sources else [])])
    making = _Making(extractor, analysis, parts, config)
    done: list[Clip] = []
    for _, group in groupby(sorted(clips, key=_speaker), key=_speaker):
        several = list(group)
        if not (kept and all(file_of(folder, clip).is_file() for clip in several)):
            heard, several = making.hear(several), []
            for own in heard:
                if not (kept and file_of(folder, own.clip).is_file()):
                    frames = making.frames(own, heard)
                    if frames is None:
                        continue
                    write_frames(file_of(folder, own.clip), frames, analysis.made_by)
                several.append(own.clip)
        done += several
        yield from several
    name_left_out(making.left_out)
    if not done:
        first = (making.left_out or ["there are none"])[0]
        raise ValueError(f"none of {len(clips)} clips can be used; the first: {first}.")
    write_table(folder, done)


def _speaker(clip: Clip) -> tuple[str, str]:
    return clip.speaker, "" if clip.speaker else clip.key


@dataclass
class _Making:
    """Makes the frames of clips, and remembers which ones have to be left out."""

    extractor: Extractor
    analysis: Analysis
    parts: Parts | None
    config: PrematchConfig
    left_out: list[str] = field(default_factory=list)

    @torch.no_grad()
    def hear(self, clips: Iterable[Clip], *, sources: bool = False) -> list[_Heard]:
        """Returns the frames of clips, or of their sources, as far as they can be heard."""
        heard = []
        for clip in clips:
            try:
                wav = torch.from_numpy(decode_heard(clip) if sources else decode(clip.path))
                matched = self.extractor(wav, every_hop=True)
            except BROKEN as error:  # one bad file never stops the rest
                self.left_out.append(f"{clip.key} ({str(error).splitlines()[0]})")
                continue
            heard.append(_Heard(clip, matched.cpu().half(), self.analysis.beside(wav, matched).half()))
        return heard

    def frames(self, own: _Heard, heard: Sequence[_Heard]) -> Tensor | None:
        """Returns the frames of one clip as a conversion into its own speaker's voice would; None if it is left out."""
        config, chance = self.config, random.Random(f"{self.config.seed} {own.clip.key}")
        others = [other for other in heard if other is not own]
        chance.shuffle(others)
        seconds, wanted = 0.0, chance.uniform(*config.reference)
        chosen: list[_Heard] = []
        for other in others:
            if seconds < wanted:
                chosen.append(other)
                seconds += len(other.matched) / 50
        k = chance.randint(*config.neighbours)
        share = chance.uniform(*config.blend) if chance.random() < config.mixed else 1.0
        if own.clip.source is None:
            if seconds < LEAST or chance.random() < config.own:
                return own.spoken.float()
            return self._converted(own, chosen, k, share)
        if seconds < LEAST:
            self.left_out.append(f"{own.clip.key} (there are only {seconds:.1f} s of its speaker's other clips)")
            return None
        # only now, or the sources of all of a speaker's clips would lie in memory beside these
        sources = self.hear([own.clip], sources=True)
        return self._converted(sources[0], chosen, k, 1.0) if sources else None

    def _converted(self, source: _Heard, chosen: Sequence[_Heard], k: int, share: float) -> Tensor:
        device, spoken = self.extractor.device, source.spoken.float().to(self.extractor.device)
        theirs = torch.cat([other.spoken for other in chosen]).to(device)
        pool = Pool(torch.cat([other.matched for other in chosen]).to(device), theirs)
        # the true sound has the source's F0, whoever speaks, so it is not moved to the speaker's median
        melody = None if self.parts is None else Melody(self.parts, None, theirs, 0.0)
        matches = KNN(k)([source.matched.float().to(device)], pool)
        return torch.cat([piece.cpu() for piece in mixed(matches, [spoken], melody, share, Tally())])
