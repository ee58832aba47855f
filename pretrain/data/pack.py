"""The sound of a list of clips: decoded once into one flat file that is mapped, or decoded anew whenever it is read.

Of a clip with a source, it is the source's sound that is heard, as long as the clip itself.

A pack is a folder: `audio.i16` (all clips' samples at 16 kHz, end to end) and `index.json`. Any number of processes
share one copy of it, and a crop costs one small read; an hour takes 115 MB.
"""

import hashlib
import json
import logging
import shutil
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np

from pretrain.data.manifest import BROKEN, SAMPLE_RATE, Clip, Samples, ahead, decode_heard, name_left_out
from pretrain.encoder.frontend import FIELD

log = logging.getLogger(__name__)


class Sounds(Protocol):
    """Clips whose sound can be read."""

    clips: list[Clip]

    def read(self, index: int) -> Samples:
        """Give the samples of clip `index`, (samples,) at 16 kHz."""


class Files:
    """Clips decoded whenever they are read: for corpora that do not fit a disk twice."""

    def __init__(self, clips: list[Clip]) -> None:
        self.clips = clips

    def read(self, index: int) -> Samples:
        """Decode clip `index`; one that has become unreadable is a moment of silence, and said."""
        clip = self.clips[index]
        try:
            return decode_heard(clip)
        except BROKEN as error:
            log.warning("%s cannot be read (%s); silence takes its place", clip.key, str(error).splitlines()[0])
            # a list may round its seconds: never more than there was
            return np.zeros(max(int((clip.seconds - 0.02) * SAMPLE_RATE), FIELD), np.float32)


class Pack:
    """Clips decoded once; see above. The clips' seconds are those of the pack."""

    def __init__(self, folder: Path, clips: list[Clip]) -> None:
        self.folder = folder
        try:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            lengths = dict(zip(index["keys"], index["lengths"], strict=True))
        except (OSError, ValueError, KeyError):
            raise ValueError(f"{folder} is no pack of clips, or is broken; remove it.") from None
        starts = dict(zip(index["keys"], accumulate([0, *index["lengths"]]), strict=False))
        self.made_of: str = index["made_of"]
        self.clips = [clip._replace(seconds=lengths[clip.key] / SAMPLE_RATE) for clip in clips if clip.key in lengths]
        self._spans = [(starts[clip.key], lengths[clip.key]) for clip in self.clips]

    def read(self, index: int) -> Samples:
        """Give the samples of clip `index`, (samples,) at 16 kHz."""
        start, count = self._spans[index]
        audio = np.memmap(self.folder / "audio.i16", np.int16, "r")
        return audio[start : start + count].astype(np.float32) / np.float32(32768)


def make_pack(clips: list[Clip], folder: Path, *, workers: int = 2, keep: bool = False) -> Pack:
    """Decode clips into a pack, or open it if it is there of the same; clips that cannot be read are named.

    Args:
        clips: what to decode.
        folder: where to; a pack of other clips is replaced.
        workers: how many clips are decoded at the same time.
        keep: refuse to replace a pack, since a training has learned from it.
    """
    made_of = hashlib.blake2b(repr([_facts(clip) for clip in clips]).encode(), digest_size=8).hexdigest()
    if folder.exists():
        if (pack := Pack(folder, clips)).made_of == made_of:
            return pack
        if keep:
            raise ValueError(f"{folder} holds other clips, which a training has learned from; take another folder.")
    log.info("packing %d clips into %s", len(clips), folder)
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    keys, lengths, left_out = [], [], []
    with (partial / "audio.i16").open("wb") as audio:
        for clip, pending in ahead(clips, decode_heard, workers):
            try:
                sound = pending.result()
            except BROKEN as error:
                left_out.append(f"{clip.key} ({str(error).splitlines()[0]})")
                continue
            audio.write((np.clip(sound, -1, 1) * 32767).round().astype(np.int16).tobytes())
            keys.append(clip.key)
            lengths.append(len(sound))
    name_left_out(left_out)
    if not keys:
        raise ValueError(f"no clip can be read; the first: {left_out[0]}.")
    text = json.dumps({"keys": keys, "lengths": lengths, "made_of": made_of})
    (partial / "index.json").write_text(text, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return Pack(folder, clips)


def _facts(clip: Clip) -> tuple[str | int, ...]:
    """Returns what a pack is known by of a clip: its key, and the place and size of each of its files."""
    files = [clip.path, *([clip.source] if clip.source else [])]
    return (clip.key, *(fact for file in files for fact in (str(file), file.stat().st_size)))


def some(sounds: Sounds, indices: list[int]) -> Sounds:
    """Give some of the clips, as if there were no others."""
    return _Some(sounds, indices)


class _Some:
    def __init__(self, sounds: Sounds, indices: list[int]) -> None:
        self.sounds, self.indices = sounds, indices
        self.clips = [sounds.clips[index] for index in indices]

    def read(self, index: int) -> Samples:
        return self.sounds.read(self.indices[index])
