"""Pickled checkpoints, read without executing any of their code.

`torch.load(weights_only=True)` builds tensors and plain containers only. fairseq's files also hold objects of its
configuration; these become `Inert`, a class of ours that only keeps their data.
"""

import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def settings_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a checkpoint's settings: unilm's `cfg`, fairseq's `cfg` (a tree) or `args` (a namespace)."""
    flat: dict[str, Any] = {}

    def collect(node: Any) -> None:
        if isinstance(node, Inert):
            node = node.__dict__.get("_content", node.__dict__)
        for key, value in node.items() if isinstance(node, dict) else ():
            if isinstance(value, Inert) and "_val" in value.__dict__:
                value = value.__dict__["_val"]
            if isinstance(value, dict | Inert):
                collect(value)
            else:
                flat.setdefault(str(key), value)

    collect(checkpoint.get("args"))
    collect(checkpoint.get("cfg"))
    return flat


class Inert:
    """Stands in for a class named in a checkpoint, so that its data can be read without its code."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"state": state})


# modules whose classes may be kept as data; of torch's and Python's own the unpickler admits the safe ones
_HARMLESS = ("fairseq.", "omegaconf.", "argparse.Namespace", "enum.", "typing.", "examples.", "numpy.")
_CHECKED_BY_TORCH = ("torch.", "collections.", "_codecs.", "__builtin__.", "builtins.")


def load_inert(file: Path) -> dict[str, Any]:
    """Load a pickled checkpoint's tensors; classes of fairseq's configuration become `Inert`, others are refused."""
    if not file.is_file():
        raise ValueError(f"{file} does not exist.")
    try:
        named = [name for name in _classes_in(file) if not name.startswith(_CHECKED_BY_TORCH)]
        unknown = [name for name in named if not name.startswith(_HARMLESS)]
        if not unknown:
            with torch.serialization.safe_globals([(type("Inert", (Inert,), {}), name) for name in named]):
                checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken zip, a truncated pickle, an opcode that is not allowed
        raise ValueError(
            f"{file} is no readable checkpoint ({(str(error) or 'it is empty').splitlines()[0]})."
        ) from None
    if unknown:
        raise ValueError(
            f"{file} names {', '.join(unknown)}, which no checkpoint of this kind needs; it was not opened."
        )
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{file} holds a {type(checkpoint).__name__}, not the weights of a model.")
    return checkpoint


def _classes_in(file: Path) -> list[str]:
    """List the classes and functions that a checkpoint names, without running it."""
    if zipfile.is_zipfile(file):
        return torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
    with file.open("rb") as stream:  # before torch 1.6: a row of pickles, of which the fourth holds the objects
        opcodes = [opcode for _ in range(4) for opcode in pickletools.genops(stream)]
    return sorted({str(argument).replace(" ", ".") for opcode, argument, _ in opcodes if opcode.name == "GLOBAL"})
