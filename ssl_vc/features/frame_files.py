"""Frames of clips in a folder, as the training of vocoders reads them: a file of each clip, and `clips.tsv`."""

import csv
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from pretrain.data.manifest import Clip
from ssl_vc.files import replacing


def begin(folder: Path, make: Any) -> bool:
    """Tell whether a folder holds frames of this make, which JSON can hold; else begin it."""
    told = json.dumps(make, sort_keys=True)
    note = folder / "made_of.json"
    if note.is_file() and note.read_text(encoding="utf-8") == told:
        return True
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty, and what it holds was made otherwise; remove it, or take another.")
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(note) as part:
        part.write_text(told, encoding="utf-8")
    return False


def file_of(folder: Path, clip: Clip) -> Path:
    """Say where the frames of a clip are: in the folder, wherever the clip itself may be."""
    key = PurePath(clip.key)
    if key.is_absolute() or ".." in key.parts:
        digest = hashlib.blake2b(clip.key.encode(errors="surrogateescape"), digest_size=8).hexdigest()
        return folder / f"{digest}-{key.name}.safetensors"
    return folder / f"{key}.safetensors"


def write_frames(path: Path, frames: Tensor, made_by: Mapping[str, Any]) -> None:
    """Write the frames of one clip (frames, dim), and what made them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {name: fact for name, fact in made_by.items() if name not in ("kind", "dim")}
    with replacing(path) as part:
        save_file({"frames": frames.half().contiguous()}, part, {"kind": made_by["kind"], "spec": json.dumps(facts)})


def write_table(folder: Path, clips: Sequence[Clip]) -> Path:
    """Write `clips.tsv`, the list of all clips and of their frames."""
    with replacing(folder / "clips.tsv") as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["path", "frames", "speaker", "seconds"])
        for clip in clips:
            path = os.path.relpath(clip.path.resolve(), folder.resolve())
            frames = file_of(folder, clip).relative_to(folder)
            table.writerow([path, frames, clip.speaker, f"{clip.seconds:.3f}"])
    return folder / "clips.tsv"
