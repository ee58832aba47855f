"""Enrolment: recordings of a speaker become a voice."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_vc.audio import CONTAINERS, DEMUXERS, SAMPLE_RATE, AudioError, Source, normalize_loudness, read, trim
from ssl_vc.features.analysis import Analysis
from ssl_vc.features.extractor import Extractor
from ssl_vc.files import printable
from ssl_vc.match.protocol import Pool
from ssl_vc.voice import quality as report
from ssl_vc.voice.voice import Origin, PitchRange, Voice, stored
from vocoder.pitch import track_pitch

SUFFIXES = {*CONTAINERS, *DEMUXERS, ".aiff", ".aif"}


def build_voice(
    sources: Source | Iterable[Source],
    extractor: Extractor,
    synthesis: Analysis | None = None,
    *,
    name: str = "voice",
    trimmed: bool = True,
    loudness: float | None = None,
    note: str = "",
) -> Voice:
    """Make a voice of recordings of one speaker.

    Args:
        sources: one or more; see `ssl_vc.read`. A folder stands for all the sound files below it.
        extractor: makes the frames that are matched.
        synthesis: makes what the vocoder reads in their place; None if it reads the frames themselves.
        name: how the voice is called.
        trimmed: whether silence at both ends is cut off.
        loudness: bring every recording to so many LUFS first; left as it is if None.
        note: licence, consent, whatever a user of the voice should know.
    """
    if loudness is not None and not -70 <= loudness <= 0:
        raise ValueError(f"loudness is {loudness!r}; possible are numbers from -70 to 0.")
    wavs, clips, others, origins = [], [], [], []
    for label, source in _each(sources):
        wav = read(source, speech=True)
        wav = trim(wav) if trimmed else wav
        wav = wav if loudness is None else normalize_loudness(wav, loudness)
        try:
            frames = extractor(wav)
        except AudioError as error:
            raise AudioError(str(error).replace("'the clip'", label)) from None
        if synthesis is not None:
            others.append(stored(synthesis.beside(wav, frames)[: len(frames)]))
        wavs.append(wav)
        clips.append(stored(frames))
        origins.append(Origin(label, _hash(source), round(len(wav) / SAMPLE_RATE, 3), len(frames)))
    frames = _joined(clips)
    pitches = [track_pitch(wav, SAMPLE_RATE) for wav in wavs]
    names = [origin.name for origin in origins]
    return Voice(
        frames,
        extractor.spec,
        name,
        tuple(origins),
        None if synthesis is None else _joined(others),
        None if synthesis is None else dict(synthesis.made_by),
        _pitch(pitches),
        report.examine(wavs, names, clips, Pool(frames, None, [len(clip) for clip in clips]), pitches),
        note,
    )


def _each(sources: Source | Iterable[Source]) -> Iterator[tuple[str, Source]]:
    """Give every recording with what to call it."""
    single = isinstance(sources, str | os.PathLike | Tensor) or _is_pair(sources)
    given: list[Source] = [sources] if single else list(sources)  # type: ignore[list-item, arg-type]
    if not given:
        raise ValueError("no recordings were given; a voice is made of at least one.")
    for number, source in enumerate(given, 1):
        if not isinstance(source, str | os.PathLike):
            yield f"recording {number}", source
        elif not Path(source).is_dir():
            yield printable(source), source
        else:
            files = sorted(path for path in Path(source).rglob("*") if _is_sound(path))
            if not files:
                raise ValueError(f"the folder {str(source)!r} holds no sound files.")
            yield from ((printable(path), path) for path in files)


def _is_sound(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def _is_pair(sources: object) -> bool:
    return isinstance(sources, tuple) and len(sources) == 2 and isinstance(sources[1], int | np.integer)


def _hash(source: Source) -> str:
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    sound = source[0] if isinstance(source, tuple) else source
    samples = sound.numpy(force=True) if isinstance(sound, Tensor) else sound
    return hashlib.sha256(np.ascontiguousarray(samples).tobytes()).hexdigest()


def _joined(clips: Sequence[Tensor]) -> Tensor:
    """Join clips; all become bfloat16 if one of them needs it."""
    alike = len({clip.dtype for clip in clips}) == 1
    return torch.cat([clip if alike else clip.bfloat16() for clip in clips])


def _pitch(pitches: Sequence[Tensor]) -> PitchRange | None:
    tracks = torch.cat([*pitches])
    voiced = tracks[tracks > 0].double()
    if not len(voiced):
        return None
    low, median, high = (round(float(value), 2) for value in np.quantile(voiced.numpy(), (0.05, 0.5, 0.95)))
    return PitchRange(median, low, high, round(len(voiced) / len(tracks), 4))
