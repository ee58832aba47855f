"""Prematching: what a vocoder will get in conversions, beside the sound that it should make of it.

Baas, van Niekerk and Kamper, 2023, "Voice Conversion With Just Nearest Neighbors", arXiv 2305.18975: every frame of a
clip is replaced by the mean of its nearest ones among the same speaker's other clips. So a vocoder learns on frames as
blurred as those of a conversion, and yet knows the true sound.

Here the number of neighbours, the share of matched frames and the length of the reference differ from clip to clip, for
users choose them too.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pretrain.manifest import BROKEN, Clip, decode, name_left_out
from ssl_vc.extract import Extractor
from ssl_vc.features import Analysis
from ssl_vc.flow import Tally, mixed
from ssl_vc.frame_folder import begin, file_of, write_frames, write_table
from ssl_vc.match.knn import KNN
from ssl_vc.match.protocol import Pool
from ssl_vc.melody import Melody, Parts

LEAST = 5.0  # seconds of other clips, without which frames stay as they are


@dataclass(frozen=True)
class PrematchConfig:
    """How clips are matched with their speakers' others. Ranges are from .. to, both included.

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

    Clips without other speech of their speaker keep their own frames. What is there already is left as it is.

    Args:
        clips: of any speakers; those without a name are taken for a speaker each.
        folder: where to.
        extractor: makes the frames that are compared.
        analysis: makes what the vocoder reads.
        parts: of that, where the source's melody goes along; None where nothing does.
        config: see `PrematchConfig`.
    """
    folder, config = Path(folder), config or PrematchConfig()
    kept, left_out = begin(folder, [dict(analysis.made_by), vars(config)]), []
    done: list[Clip] = []
    for _, group in groupby(sorted(clips, key=_speaker), key=_speaker):
        several = list(group)
        if not (kept and all(file_of(folder, clip).is_file() for clip in several)):
            heard, broken = _hear(several, extractor, analysis)
            left_out += broken
            several = [each.clip for each in heard]
            for index, own in enumerate(heard):
                if not (kept and file_of(folder, own.clip).is_file()):
                    frames = _matched(index, heard, parts, config, extractor)
                    write_frames(file_of(folder, own.clip), frames, analysis.made_by)
        done += several
        yield from several
    name_left_out(left_out)
    if not done:
        raise ValueError(f"none of {len(clips)} clips can be heard; the first: {(left_out or ['there are none'])[0]}.")
    write_table(folder, done)


def _speaker(clip: Clip) -> tuple[str, str]:
    return clip.speaker, "" if clip.speaker else clip.key


@torch.no_grad()
def _hear(clips: Iterable[Clip], extractor: Extractor, analysis: Analysis) -> tuple[list[_Heard], list[str]]:
    heard, left_out = [], []
    for clip in clips:
        try:
            wav = torch.from_numpy(decode(clip.path))
            matched = extractor(wav, every_hop=True)
        except BROKEN as error:  # one bad file never stops the rest
            left_out.append(f"{clip.key} ({str(error).splitlines()[0]})")
            continue
        heard.append(_Heard(clip, matched.cpu().half(), analysis.beside(wav, matched).half()))
    return heard, left_out


def _matched(
    index: int, heard: Sequence[_Heard], parts: Parts | None, config: PrematchConfig, extractor: Extractor
) -> Tensor:
    """Give the frames of one clip as a conversion into its own speaker's voice would."""
    own, chance = heard[index], random.Random(f"{config.seed} {heard[index].clip.key}")
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
    spoken = own.spoken.float()
    if seconds < LEAST or chance.random() < config.own:
        return spoken
    device = extractor.device
    theirs = torch.cat([other.spoken for other in chosen]).to(device)
    pool = Pool(torch.cat([other.matched for other in chosen]).to(device), theirs)
    melody = None if parts is None else Melody(parts, None, theirs, 0.0)
    matches = KNN(k)([own.matched.float().to(device)], pool)
    return torch.cat([piece.cpu() for piece in mixed(matches, [spoken.to(device)], melody, share, Tally())])
