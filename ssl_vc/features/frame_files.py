"""A folder of frames for the training of vocoders: one file per clip, and `clips.tsv`."""

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from safetensors.torch import save
from torch import Tensor

from pretrain.data.manifest import Clip
from ssl_vc.features.layout import FeatureSpec
from ssl_vc.files import LOCK, replacing


def open_folder(folder: Path, settings: Any) -> bool:
    """Return whether a folder holds frames made with these settings (JSON values); otherwise start an empty one."""
    wanted = json.dumps(settings, sort_keys=True)
    record = folder / "made_of.json"
    if record.is_file() and record.read_text(encoding="utf-8") == wanted:
        return True
    if folder.exists() and any(path.name != LOCK for path in folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty, and its contents were made with other settings; remove it, or choose another."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(record) as part:
        part.write_text(wanted, encoding="utf-8")
    return False


def frames_path(folder: Path, clip: Clip) -> Path:
    """Return the path of a clip's frames, inside the folder wherever the clip itself is."""
    key = PurePath(clip.key)
    if key.is_absolute() or ".." in key.parts:
        digest = hashlib.blake2b(clip.key.encode(errors="surrogateescape"), digest_size=8).hexdigest()
        return folder / f"{digest}-{key.name}.safetensors"
    return folder / f"{key}.safetensors"


def write_frames(path: Path, frames: Tensor, spec: FeatureSpec) -> None:
    """Write the frames of one clip (frames, dim) and their spec."""
    path.parent.mkdir(parents=True, exist_ok=True)
    details = {name: value for name, value in spec.items() if name not in ("kind", "dim")}
    metadata = {"kind": spec["kind"], "spec": json.dumps(details)}
    with replacing(path) as part:
        part.write_bytes(save({"frames": frames.half().contiguous()}, metadata))


def write_table(folder: Path, clips: Sequence[Clip]) -> Path:
    """Write `clips.tsv`, the list of all clips and their frames; return its path."""
    with replacing(folder / "clips.tsv") as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["path", "frames", "speaker", "seconds"])
        for clip in clips:
            path = os.path.relpath(clip.path.resolve(), folder.resolve())
            frames = frames_path(folder, clip).relative_to(folder)
            table.writerow([path, frames, clip.speaker, f"{clip.seconds:.3f}"])
    return folder / "clips.tsv"
