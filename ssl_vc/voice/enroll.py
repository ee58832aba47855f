"""Enrolment: build a voice from recordings of a speaker."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_vc.audio import CONTAINERS, DEMUXERS, SAMPLE_RATE, AudioError, Source, is_single, raw_data, read, trim
from ssl_vc.features.analysis import Analysis
from ssl_vc.features.extractor import Extractor
from ssl_vc.files import printable
from ssl_vc.loudness import normalize_loudness
from ssl_vc.match.protocol import Pool
from ssl_vc.voice import quality
from ssl_vc.voice.voice import Origin, PitchRange, Voice, to_half
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
    """Build a voice from recordings of one speaker.

    Args:
        sources: one or more; see `ssl_vc.read`. A folder stands for all audio files below it.
        extractor: computes the frames that are matched.
        synthesis: computes the vocoder's frames; None if the vocoder reads the matched ones.
        name: of the voice.
        trimmed: trim silence at both ends.
        loudness: normalise each recording to this level in LUFS first; None leaves it unchanged.
        note: licence, consent and anything else a user of the voice should know.
    """
    if loudness is not None and not -70 <= loudness <= 0:
        raise ValueError(f"loudness is {loudness!r}; possible are numbers from -70 to 0.")
    wavs, clips, vocoder_clips, origins = [], [], [], []
    for label, source in _recordings(sources):
        wav = read(source, speech=True)
        wav = trim(wav) if trimmed else wav
        wav = wav if loudness is None else normalize_loudness(wav, loudness)
        try:
            frames = extractor(wav)
        except AudioError as error:
            raise AudioError(str(error).replace("'the clip'", label)) from None
        if synthesis is not None:
            vocoder_clips.append(to_half(synthesis.compute(wav, frames)[: len(frames)]))
        wavs.append(wav)
        clips.append(to_half(frames))
        origins.append(Origin(label, _hash(source), round(len(wav) / SAMPLE_RATE, 3), len(frames)))
    frames, pitches = _concatenate(clips), [track_pitch(wav, SAMPLE_RATE) for wav in wavs]
    names, pool = [origin.name for origin in origins], Pool(frames, None, [len(clip) for clip in clips])
    return Voice(
        frames=frames,
        spec=extractor.spec,
        name=name,
        origins=tuple(origins),
        synthesis=None if synthesis is None else _concatenate(vocoder_clips),
        synthesis_spec=None if synthesis is None else dict(synthesis.feature_spec),
        pitch=_pitch_range(pitches),
        findings=quality.examine(wavs, names, clips, pool, pitches),
        note=note,
    )


def _recordings(sources: Source | Iterable[Source]) -> Iterator[tuple[str, Source]]:
    """Yield (label, source) for every recording."""
    listed: list[Source] = [sources] if is_single(sources) else list(sources)  # type: ignore[list-item, arg-type]
    if not listed:
        raise ValueError("there are no recordings; a voice needs at least one.")
    for number, source in enumerate(listed, 1):
        if not isinstance(source, str | os.PathLike):
            yield f"recording {number}", source
        elif not Path(source).is_dir():
            yield printable(source), source
        else:
            files = audio_files(Path(source))
            if not files:
                raise ValueError(f"the folder {str(source)!r} contains no audio files.")
            yield from ((printable(path), path) for path in files)


def audio_files(folder: Path) -> list[Path]:
    """Return the audio files in and below a folder, by their suffixes, without hidden ones."""
    return sorted(path for path in folder.rglob("*") if _is_audio(path))


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def _hash(source: Source) -> str:
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(np.ascontiguousarray(raw_data(source)).tobytes()).hexdigest()


def _concatenate(clips: Sequence[Tensor]) -> Tensor:
    """Concatenate clips, all as bfloat16 if one of them is."""
    same_dtype = len({clip.dtype for clip in clips}) == 1
    return torch.cat([clip if same_dtype else clip.bfloat16() for clip in clips])


def _pitch_range(pitches: Sequence[Tensor]) -> PitchRange | None:
    tracks = torch.cat([*pitches])
    voiced = tracks[tracks > 0].double()
    if not len(voiced):
        return None
    low, median, high = (round(float(value), 2) for value in np.quantile(voiced.numpy(), (0.05, 0.5, 0.95)))
    return PitchRange(median, low, high, round(len(voiced) / len(tracks), 4))
