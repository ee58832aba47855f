"""Training data for vocoders: clips packed once into flat files, then read in segments determined by the step.

A pack is a folder: `audio.i16` (the samples of all clips, concatenated), `frames.f16` (their frames, likewise, unless
features are computed during training), `index.json`. Both are memory-mapped, so that any number of workers share one
copy and a segment costs two small reads. Frame t of a clip is aligned with its samples t * hop .. (t + 1) * hop:

    audio   |--hop--|--hop--|--hop--|--hop--|    exactly frames * hop samples
    frames  |   0   |   1   |   2   |   3   |

A clip at a lower sample rate than the pack's has nothing above half of it, its bandwidth, which losses have to know.
"""

import csv
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vocoder.files import read_json, require_file
from vocoder.training.folders import check_replaceable, remove_written

log = logging.getLogger(__name__)

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"}
FILES = "audio.i16", "frames.f16", "index.json"  # of a pack
Featurizer = Callable[[Tensor, int], Tensor]  # (samples,) and their sample rate -> (frames, dim)


class Clip(NamedTuple):
    """An audio file, and its frames if they were extracted before (`ssl-vc prematch`, `ssl-vc extract`)."""

    audio: Path
    frames: Path | None = None


class Segment(NamedTuple):
    """A training example, or a batch of them, with a leading axis."""

    frames: Tensor  # (frames, dim); (frames, 0) if the pack holds none
    wav: Tensor  # (frames * hop_length,)
    bandwidth: Tensor  # (), in Hz


def find_clips(source: str | Path, split: str | None = None) -> list[Clip]:
    """List the clips of a folder or a table.

    Args:
        source: a folder, searched recursively for audio files, or a tab-separated file with the column `path` and
            optionally `frames` and `split`; paths are relative to the file's folder.
        split: selects rows of the table; all if None.
    """
    source = Path(source)
    if source.is_dir():
        clips = [Clip(path) for path in sorted(source.rglob("*")) if path.suffix.lower() in AUDIO_SUFFIXES]
    elif source.is_file():
        with source.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        if not rows or "path" not in rows[0]:
            raise ValueError(f"{source} is not a table of clips; it needs tab-separated columns, one of them 'path'.")
        folder = source.parent
        clips = [
            Clip(folder / row["path"], folder / row["frames"] if row.get("frames") else None)
            for row in rows
            if split is None or row.get("split") == split
        ]
    else:
        raise ValueError(f"there are no clips at {source}; it must be a folder of audio files or a table of clips.")
    if not clips:
        raise ValueError(f"{source} lists no clips{f' of the split {split!r}' if split else ''}.")
    return clips


@dataclass(frozen=True)
class Pack:
    """Clips as flat files, see above.

    Attributes:
        folder: of the files.
        names: of the clips.
        lengths: frames of each clip.
        hop_length: samples per frame.
        sample_rate: of the audio, in Hz.
        dim: size of a frame; 0 if the pack holds no frames.
        reads: what the frames are.
        fingerprint: of the list of clips and the settings they were packed with.
        bandwidths: of the clips, in Hz; older packs do not know them, and count as full.
    """

    folder: Path
    names: list[str]
    lengths: list[int]
    hop_length: int
    sample_rate: int
    dim: int
    reads: dict[str, Any]
    fingerprint: str
    bandwidths: list[float] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> "Pack":
        """Open a pack written by `pack_clips`."""
        try:
            index = read_json(folder / "index.json")
            if "made_of" in index:  # in older packs
                index["fingerprint"] = index.pop("made_of")
            return cls(folder, **index)
        except (ValueError, TypeError):
            raise ValueError(f"{folder} is not a pack of clips, or is broken; remove it.") from None

    def clip(self, index: int) -> Segment:
        """Returns a whole clip."""
        return self.read(index, 0, self.lengths[index])

    @cached_property
    def _offsets(self) -> list[int]:
        return [0, *accumulate(self.lengths)]

    def read(self, index: int, start: int, count: int) -> Segment:
        """Returns `count` frames of a clip, from its frame `start` on."""
        start += self._offsets[index]
        bandwidth = self.bandwidths[index] if self.bandwidths else self.sample_rate / 2
        audio = np.memmap(self.folder / "audio.i16", np.int16, "r")
        wav = audio[start * self.hop_length : (start + count) * self.hop_length]
        frames = np.zeros((count, 0), np.float32)
        if self.dim:
            whole = np.memmap(self.folder / "frames.f16", np.float16, "r").reshape(-1, self.dim)
            frames = whole[start : start + count].astype(np.float32)
        samples = torch.from_numpy(wav.astype(np.float32) / 32768)
        return Segment(torch.from_numpy(frames), samples, torch.tensor(bandwidth))


def pack_clips(
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
    """Decode clips into a pack, or open it if it holds the same clips; unusable clips are logged and skipped.

    Args:
        clips: to decode.
        folder: of the pack.
        sample_rate: to resample to.
        hop_length: samples per frame, at that rate.
        shortest: clips of fewer frames are skipped.
        featurize: extracts the frames of clips that come without; None if the pack is to hold no frames.
        reads: what the frames are.
        keep: refuse to replace a pack of other clips, because a training depends on it.
    """
    sizes = [clip.audio.stat().st_size if clip.audio.is_file() else 0 for clip in clips]
    packed = repr(((clips, sizes), sample_rate, hop_length, shortest, reads))
    fingerprint = hashlib.blake2b(packed.encode(), digest_size=8).hexdigest()
    if (folder / "index.json").is_file():
        if (pack := Pack.open(folder)).fingerprint == fingerprint:
            return pack
        if keep:
            raise ValueError(f"the clips are not those that the training in {folder.parent} was started with.")
    check_replaceable(folder, FILES)
    log.info("packing %d clips into %s", len(clips), folder)
    part = folder.with_name(f".{folder.name}.part")
    remove_written(part, FILES)
    part.mkdir(parents=True)

    def load(clip: Clip) -> tuple[Tensor, Tensor | None, float]:
        return _load_clip(clip, sample_rate, hop_length, shortest, featurize, reads or {})

    index = {**_write_clips(clips, part, load, hop_length), "hop_length": hop_length, "sample_rate": sample_rate}
    text = json.dumps({**index, "reads": reads or {}, "fingerprint": fingerprint})
    (part / "index.json").write_text(text, encoding="utf-8")
    remove_written(folder, FILES)
    part.rename(folder)
    return Pack.open(folder)


def _write_clips(
    clips: list[Clip], folder: Path, load: Callable[[Clip], tuple[Tensor, Tensor | None, float]], hop_length: int
) -> dict[str, Any]:
    """Write all usable clips and return their names, lengths, bandwidths and frame size."""
    names, lengths, bandwidths, skipped, dim = [], [], [], [], 0
    with (folder / "audio.i16").open("wb") as audio, (folder / "frames.f16").open("wb") as frames_file:
        for clip in clips:
            try:
                wav, frames, bandwidth = load(clip)
            except (OSError, ValueError, soundfile.SoundFileError, SafetensorError) as error:
                skipped.append(f"{clip.audio.name} ({str(error).splitlines()[0]})")
                continue
            if frames is not None:
                if dim not in (0, frames.shape[1]):
                    raise ValueError(f"{clip.audio} has frames of {frames.shape[1]} numbers, the others of {dim}.")
                dim = frames.shape[1]
                frames_file.write(frames.half().numpy().tobytes())
            audio.write((wav.clamp(-1, 1) * 32767).round().short().numpy().tobytes())
            names.append(clip.audio.name)
            lengths.append(len(wav) // hop_length)
            bandwidths.append(bandwidth)
    if skipped:
        log.warning("skipped %d unusable clips: %s", len(skipped), ", ".join(skipped[:20]))
    if not names:
        raise ValueError(f"no clip is usable; the first: {skipped[0] if skipped else 'there are none'}.")
    return {"names": names, "lengths": lengths, "bandwidths": bandwidths, "dim": dim}


def _load_clip(
    clip: Clip,
    sample_rate: int,
    hop_length: int,
    shortest: int,
    featurize: Featurizer | None,
    reads: dict[str, Any],
) -> tuple[Tensor, Tensor | None, float]:
    """Returns a clip's samples and frames, of the same duration, and its bandwidth; an error if it is unusable."""
    wav, rate = _decode(clip.audio, sample_rate)
    frames = _frames(clip, wav, sample_rate, featurize, reads)
    count = hops = len(wav) // hop_length
    if frames is not None:
        if abs(len(frames) - hops) > 3:
            raise ValueError(f"{len(frames)} frames for {hops} hops")
        count = min(hops, len(frames))
        frames = frames[:count]
    if count < shortest:
        raise ValueError(f"too short: {count} frames of {shortest}")
    return wav[: count * hop_length], frames, min(rate, sample_rate) / 2


def stored_features(clip: Clip) -> dict[str, Any]:
    """Returns what a clip's frames are, from the metadata of their file."""
    if clip.frames is None:
        raise ValueError(f"the table has no frames for {clip.audio}; it needs a column 'frames'.")
    try:
        with safe_open(require_file(clip.frames), "pt") as file:
            metadata = file.metadata() or {}
            dim = file.get_slice("frames").get_shape()[1]
        return {"kind": metadata.get("kind", "ssl"), "dim": dim, **json.loads(metadata.get("spec", "{}"))}
    except (OSError, SafetensorError, ValueError, IndexError, RecursionError) as error:
        raise ValueError(f"{clip.frames} is not a file of frames ({str(error).splitlines()[0]}).") from None


def _decode(path: Path, sample_rate: int) -> tuple[Tensor, int]:
    """Returns a file's samples at a sample rate, and its own sample rate."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise ValueError("not finite")
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="VHQ")
    return torch.from_numpy(np.ascontiguousarray(mono, dtype=np.float32)), rate


def _frames(
    clip: Clip, wav: Tensor, sample_rate: int, featurize: Featurizer | None, reads: dict[str, Any]
) -> Tensor | None:
    if clip.frames is not None:
        if stored_features(clip) != reads:
            raise ValueError("its features differ from the first clip's")
        with safe_open(clip.frames, "pt") as file:
            frames: Tensor = file.get_tensor("frames").float()
            return frames
    return None if featurize is None else featurize(wav, sample_rate).float()
