"""Training speech for vocoders: packed once into flat files, then read in segments that a step's number determines.

A pack is a folder: `audio.i16` (all clips' samples, end to end), `frames.f16` (their frames, likewise, if the features
are not made from the sound during training), `index.json`. Both are mapped, not read, so that any number of workers
share one copy and a segment costs two small reads. Clip n's frame t stands beside its samples t * hop .. (t + 1) * hop:

    audio   |--hop--|--hop--|--hop--|--hop--|    exactly frames * hop samples
    frames  |   0   |   1   |   2   |   3   |
"""

import csv
import hashlib
import json
import logging
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

log = logging.getLogger(__name__)

SOUNDS = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"}
Featurizer = Callable[[Tensor, int], Tensor]  # (samples,) and their rate -> (frames, dim)


class Clip(NamedTuple):
    """A sound file, and the file of its frames where they were made before (`ssl-vc prematch`, `ssl-vc extract`)."""

    audio: Path
    frames: Path | None = None


class Segment(NamedTuple):
    """What a step learns from; a batch of them has a first axis more."""

    frames: Tensor  # (frames, dim); (frames, 0) if the pack holds none
    wav: Tensor  # (frames * hop,)


def find_clips(source: str | Path, split: str | None = None) -> list[Clip]:
    """List the clips of a folder, or of a table.

    Args:
        source: a folder (every sound file in it, however deep), or a tab-separated file with the column `path` and
            perhaps `frames` and `split`; its paths start from the file's own folder.
        split: which rows of the table; all if None.
    """
    source = Path(source)
    if source.is_dir():
        clips = [Clip(path) for path in sorted(source.rglob("*")) if path.suffix.lower() in SOUNDS]
    elif source.is_file():
        with source.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        if not rows or "path" not in rows[0]:
            raise ValueError(f"{source} is no table of clips; it needs tabs between columns, and one called 'path'.")
        folder = source.parent
        clips = [
            Clip(folder / row["path"], folder / row["frames"] if row.get("frames") else None)
            for row in rows
            if split is None or row.get("split") == split
        ]
    else:
        raise ValueError(f"there are no clips at {source}; give a folder of sound files or a table of them.")
    if not clips:
        raise ValueError(f"{source} lists no clips{f' of the split {split!r}' if split else ''}.")
    return clips


@dataclass(frozen=True)
class Pack:
    """Clips as flat files; see above.

    Attributes:
        folder: where the files are.
        names: of the clips.
        lengths: frames of each clip.
        hop_length: samples to a frame.
        sample_rate: of the audio, in Hz.
        dim: numbers in a frame; 0 if there are none.
        reads: what made the frames.
        made_of: a fingerprint of the list of clips and of what was asked of them.
    """

    folder: Path
    names: list[str]
    lengths: list[int]
    hop_length: int
    sample_rate: int
    dim: int
    reads: dict[str, Any]
    made_of: str

    @classmethod
    def open(cls, folder: Path) -> "Pack":
        """Open what `make_pack` wrote."""
        try:
            return cls(folder, **json.loads((folder / "index.json").read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise ValueError(f"{folder} is no pack of clips, or is broken; remove it.") from None

    def clip(self, index: int) -> Segment:
        """Give a whole clip."""
        return self.cut(sum(self.lengths[:index]), self.lengths[index])

    def cut(self, start: int, count: int) -> Segment:
        """Give `count` frames from frame `start` of the whole pack on."""
        audio = np.memmap(self.folder / "audio.i16", np.int16, "r")
        wav = audio[start * self.hop_length : (start + count) * self.hop_length]
        frames = np.zeros((count, 0), np.float32)
        if self.dim:
            whole = np.memmap(self.folder / "frames.f16", np.float16, "r").reshape(-1, self.dim)
            frames = whole[start : start + count].astype(np.float32)
        return Segment(torch.from_numpy(frames), torch.from_numpy(wav.astype(np.float32) / 32768))


def make_pack(
    clips: list[Clip],
    folder: Path,
    *,
    sample_rate: int,
    hop_length: int,
    shortest: int = 1,
    featurize: Featurizer | None = None,
    reads: dict[str, Any] | None = None,
    keep: bool = False,
) -> Pack:
    """Decode clips into a pack, or open it if it is there of the same; clips that cannot be used are named.

    Args:
        clips: what to decode.
        folder: where to.
        sample_rate: to bring the audio to.
        hop_length: samples to a frame, at that rate.
        shortest: clips of fewer frames are left out.
        featurize: makes the frames of clips that do not bring any; None if the pack is to hold no frames.
        reads: what makes the frames.
        keep: refuse to replace a pack of other clips, since a training has learned from it.
    """
    asked = (clips, [clip.audio.stat().st_size if clip.audio.is_file() else 0 for clip in clips])
    made_of = hashlib.blake2b(
        repr((asked, sample_rate, hop_length, shortest, reads)).encode(), digest_size=8
    ).hexdigest()
    if (folder / "index.json").is_file():
        if (pack := Pack.open(folder)).made_of == made_of:
            return pack
        if keep:
            raise ValueError(f"the clips are not those that the training in {folder.parent} was begun with.")
    log.info("packing %d clips into %s", len(clips), folder)
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    names, lengths, left_out, dim = [], [], [], 0
    with (partial / "audio.i16").open("wb") as audio, (partial / "frames.f16").open("wb") as frames_file:
        for clip in clips:
            try:
                wav, frames = _usable(clip, sample_rate, hop_length, shortest, featurize, reads or {})
            except (OSError, ValueError, soundfile.SoundFileError, SafetensorError) as error:
                left_out.append(f"{clip.audio.name} ({str(error).splitlines()[0]})")
                continue
            if frames is not None:
                if dim not in (0, frames.shape[1]):
                    raise ValueError(f"{clip.audio} has frames of {frames.shape[1]} numbers, the others of {dim}.")
                dim = frames.shape[1]
                frames_file.write(frames.half().numpy().tobytes())
            audio.write((wav.clamp(-1, 1) * 32767).round().short().numpy().tobytes())
            names.append(clip.audio.name)
            lengths.append(len(wav) // hop_length)
    if left_out:
        log.warning("%d clips left out: %s", len(left_out), ", ".join(left_out[:20]))
    if not names:
        raise ValueError(f"no clip can be used; the first: {left_out[0] if left_out else 'there are none'}.")
    facts = {"names": names, "lengths": lengths, "hop_length": hop_length, "sample_rate": sample_rate}
    text = json.dumps({**facts, "dim": dim, "reads": reads or {}, "made_of": made_of})
    (partial / "index.json").write_text(text, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return Pack.open(folder)


def _usable(
    clip: Clip,
    sample_rate: int,
    hop_length: int,
    shortest: int,
    featurize: Featurizer | None,
    reads: dict[str, Any],
) -> tuple[Tensor, Tensor | None]:
    """Give a clip's samples and its frames, both cut to the same time, or say why it cannot be used."""
    wav = _decode(clip.audio, sample_rate)
    frames = _frames(clip, wav, sample_rate, featurize, reads)
    count = hops = len(wav) // hop_length
    if frames is not None:
        if abs(len(frames) - hops) > 3:
            raise ValueError(f"{len(frames)} frames for {hops} hops")
        count = min(hops, len(frames))
        frames = frames[:count]
    if count < shortest:
        raise ValueError(f"too short: {count} frames of {shortest}")
    return wav[: count * hop_length], frames


def made_by(clip: Clip) -> dict[str, Any]:
    """Tell what made a clip's frames, as their file says."""
    if clip.frames is None:
        raise ValueError(f"the table names no frames for {clip.audio}; it needs a column 'frames'.")
    try:
        with safe_open(clip.frames, "pt") as file:
            facts = file.metadata() or {}
            dim = file.get_slice("frames").get_shape()[1]
        return {"kind": facts.get("kind", "ssl"), "dim": dim, **json.loads(facts.get("spec", "{}"))}
    except (OSError, SafetensorError, ValueError, IndexError) as error:
        raise ValueError(f"{clip.frames} is no file of frames ({str(error).splitlines()[0]}).") from None


def _decode(path: Path, sample_rate: int) -> Tensor:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise ValueError("not finite")
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="VHQ")
    return torch.from_numpy(np.ascontiguousarray(mono, dtype=np.float32))


def _frames(
    clip: Clip, wav: Tensor, sample_rate: int, featurize: Featurizer | None, reads: dict[str, Any]
) -> Tensor | None:
    if clip.frames is not None:
        if made_by(clip) != reads:
            raise ValueError("its frames were made otherwise than the first clip's")
        with safe_open(clip.frames, "pt") as file:
            frames: Tensor = file.get_tensor("frames").float()
            return frames
    return None if featurize is None else featurize(wav, sample_rate).float()


class Segments(Dataset[Segment]):
    """Random segments of a pack. Segment number n is the same whenever it is asked for, by whatever process.

    Args:
        pack: the clips; each must be at least one segment long.
        count: frames in a segment.
        seed: of the choice; every frame of the pack is as likely as any other to be the first of a segment.
    """

    def __init__(self, pack: Pack, count: int, seed: int) -> None:
        self.pack, self.count, self.seed = pack, count, seed
        self._starts = [0, *accumulate(pack.lengths)]
        self._choices = [0, *accumulate(max(length - count + 1, 0) for length in pack.lengths)]
        if not self._choices[-1]:
            raise ValueError(f"no clip has {count} frames, as a segment does; take shorter segments or longer clips.")

    def __getitem__(self, number: int) -> Segment:
        """Give segment `number`, from 0 on without end."""
        choice = int(np.random.default_rng((self.seed, number)).integers(self._choices[-1]))
        clip = bisect_right(self._choices, choice) - 1
        return self.pack.cut(self._starts[clip] + choice - self._choices[clip], self.count)


def batches(first: int, last: int, batch: int, rank: int = 0, ranks: int = 1) -> Iterator[list[int]]:
    """Give the numbers of this process' segments for steps `first` .. `last`; all processes' together are the same."""
    share = batch // ranks
    for step in range(first, last):
        start = step * batch + rank * share
        yield list(range(start, start + share))
