"""Audio of a list of clips: decoded once into a memory-mapped file, or decoded on every read.

A clip with a source is read from it, at the clip's own length.

A pack is a folder: `audio.i16` (all clips' samples at 16 kHz, concatenated) and `index.json`. All processes share one
copy, and a crop costs one small read; an hour takes 115 MB.
"""

import hashlib
import json
import logging
import shutil
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np

from pretrain.data.manifest import READ_ERRORS, Clip, Samples, decode_input, log_skipped, prefetch
from pretrain.encoder.framing import RECEPTIVE_FIELD, SAMPLE_RATE
from pretrain.files import read_json

log = logging.getLogger(__name__)


class ClipAudio(Protocol):
    """Clips whose audio can be read by index."""

    clips: list[Clip]

    def read(self, index: int) -> Samples:
        """Return the waveform of clip `index` (samples,) at 16 kHz."""


class AudioFiles:
    """Clips decoded on every read: for corpora too large to be stored twice."""

    def __init__(self, clips: list[Clip]) -> None:
        self.clips = clips

    def read(self, index: int) -> Samples:
        """Decode clip `index`; one that has become unreadable is replaced by silence, with a warning."""
        clip = self.clips[index]
        try:
            return decode_input(clip)
        except READ_ERRORS as error:
            log.warning("%s cannot be read (%s); using silence instead", clip.key, str(error).splitlines()[0])
            # a manifest may round durations: never longer than the clip was
            return np.zeros(max(int((clip.seconds - 0.02) * SAMPLE_RATE), RECEPTIVE_FIELD), np.float32)


class AudioPack:
    """Clips decoded once; their durations are those of the packed audio."""

    def __init__(self, folder: Path, clips: list[Clip]) -> None:
        self.folder = folder
        try:
            index = read_json(folder / "index.json")
            lengths = dict(zip(index["keys"], index["lengths"], strict=True))
        except (OSError, ValueError, KeyError):
            raise ValueError(f"{folder} is no pack of clips, or a broken one; remove it.") from None
        starts = dict(zip(index["keys"], accumulate([0, *index["lengths"]]), strict=False))
        self.fingerprint: str = index["made_of"]
        self.clips = [clip._replace(seconds=lengths[clip.key] / SAMPLE_RATE) for clip in clips if clip.key in lengths]
        self._spans = [(starts[clip.key], lengths[clip.key]) for clip in self.clips]

    def read(self, index: int) -> Samples:
        """Return the waveform of clip `index` (samples,) at 16 kHz."""
        start, count = self._spans[index]
        audio = np.memmap(self.folder / "audio.i16", np.int16, "r")
        return audio[start : start + count].astype(np.float32) / np.float32(32768)


def build_pack(clips: list[Clip], folder: Path, *, workers: int = 2, keep: bool = False) -> AudioPack:
    """Decode clips into a pack, or open the pack of the same clips; unreadable clips are skipped and logged.

    Args:
        clips: what to decode.
        folder: of the pack; one of other clips is replaced.
        workers: number of decoding threads.
        keep: refuse to replace a pack, because a training depends on it.
    """
    fingerprint = hashlib.blake2b(repr([_identity(clip) for clip in clips]).encode(), digest_size=8).hexdigest()
    if folder.exists():
        if (pack := AudioPack(folder, clips)).fingerprint == fingerprint:
            return pack
        if keep:
            raise ValueError(f"{folder} holds other clips, which a training was run on; choose another folder.")
    log.info("packing %d clips into %s", len(clips), folder)
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    keys, lengths, left_out = [], [], []
    with (partial / "audio.i16").open("wb") as stream:
        for clip, pending in prefetch(clips, decode_input, workers):
            try:
                wav = pending.result()
            except READ_ERRORS as error:
                left_out.append(f"{clip.key} ({str(error).splitlines()[0]})")
                continue
            stream.write((np.clip(wav, -1, 1) * 32767).round().astype(np.int16).tobytes())
            keys.append(clip.key)
            lengths.append(len(wav))
    log_skipped(left_out)
    if not keys:
        raise ValueError(f"no clip can be read; the first: {left_out[0]}.")
    text = json.dumps({"keys": keys, "lengths": lengths, "made_of": fingerprint})
    (partial / "index.json").write_text(text, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return AudioPack(folder, clips)


def _identity(clip: Clip) -> tuple[str | int, ...]:
    """Return a clip's part of the pack's fingerprint: its key, and the path and size of each of its files."""
    files = [clip.path, *([clip.source] if clip.source else [])]
    return (clip.key, *(value for file in files for value in (str(file), file.stat().st_size)))


def subset(audio: ClipAudio, indices: list[int]) -> ClipAudio:
    """Restrict audio to some of its clips."""
    return _Subset(audio, indices)


class _Subset:
    def __init__(self, audio: ClipAudio, indices: list[int]) -> None:
        self.audio, self.indices = audio, indices
        self.clips = [audio.clips[index] for index in indices]

    def read(self, index: int) -> Samples:
        return self.audio.read(self.indices[index])
