"""A worker of a batch: hears a source, and says it in one voice after the other.

A source is heard alone, never in one tensor with others: that would be quicker for clips of a second, but changes the
last bits, and a job shall give the same bytes whatever else is in the batch.
"""

import hashlib
import json
import math
import os
import secrets
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from ssl_vc.audio import Source, write
from ssl_vc.batch.jobs import PARTS, Result, Target, Task, text
from ssl_vc.features.analysis import Analysis
from ssl_vc.features.extractor import Extractor
from ssl_vc.options import parsed
from ssl_vc.voice.voice import Voice
from vocoder.protocol import Vocoder

VOICES = 8  # kept in memory


class Converter(Protocol):
    """What a worker asks of a `VoiceConverter`."""

    @property
    def extractor(self) -> Extractor:
        """Makes the frames."""

    @property
    def matcher(self) -> object:
        """Is used where a job names none."""

    @property
    def approximate(self) -> bool:
        """Whether neighbours are looked for with an index."""

    @property
    def analysis(self) -> Analysis:
        """Makes what the vocoder reads."""

    @property
    def vocoder(self) -> Vocoder:
        """Speaks."""

    @property
    def encode(self) -> Callable[[Source], Any]:
        """Hears a source once, for many voices."""

    @property
    def converted(self) -> Callable[..., Any]:
        """Gives what was heard in a voice."""

    @property
    def enroll(self) -> Callable[..., Voice]:
        """Makes a voice of recordings."""


class Worker:
    """Does jobs, one source at a time.

    Args:
        converter: does the conversions.
        folder: of the outputs; it holds a folder for what is not finished.
        options: of all jobs that do not say otherwise.
    """

    def __init__(self, converter: Converter, folder: Path, options: Mapping[str, Any]) -> None:
        self.converter, self.folder, self.options = converter, folder, options
        self._digests = _Digests()
        self._voices = _Voices(converter, folder / PARTS)
        self._models = _models(converter)

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """Do some jobs of one source, and say what became of each; nothing that goes wrong with one stops the next."""
        source = _Heard(self.converter, self._digests, tasks[0].job.source)
        for task in tasks:
            start = time.perf_counter()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                try:
                    result = self._do(task, source)
                except Exception as error:  # one bad file, or an error of ours, never stops the rest
                    known = isinstance(error, ValueError | OSError)
                    words = " ".join((str(error) if known else f"{type(error).__name__}: {error}").split())
                    result = task.result("failed", error=words)
            if result.state == "skipped":
                yield result
                continue
            taken = time.perf_counter() - start
            said = (*result.warnings, *(" ".join(str(each.message).split()) for each in caught))
            speed = result.seconds and round(result.seconds / taken, 2)
            yield result._replace(taken=round(taken, 3), speed_factor=speed, warnings=said)

    def _do(self, task: Task, source: "_Heard") -> Result:
        job, path = task.job, self.folder / task.output
        if job.source == "" or job.voice in ("", []):
            raise ValueError("the job lacks a source or a voice; give a sound file, and a voice's file or recordings.")
        options = parsed({**self.options, **job.options})
        voice = self._digests.target(job.voice)
        mark = _mark([source.digest, voice, options, path.suffix.lower(), self._models])
        if task.earlier and task.earlier.job == mark and self._stands(task.earlier, path):
            return task.earlier._replace(state="skipped")
        made = self.converter.converted(source.heard, self._voices(voice, job.voice), **options)
        sha256 = self._write(path, made.wav, made.sample_rate)
        numbers = {name: _rounded(getattr(made, name)) for name in ("distance", "coverage", "jump", "source_jump")}
        facts = {"matcher": made.matcher, "warnings": made.warnings, "sha256": sha256, "job": mark, **numbers}
        return task.result("done", seconds=round(len(made.wav) / made.sample_rate, 3), **facts)

    def _stands(self, earlier: Result, path: Path) -> bool:
        """Tell whether an output is there as an earlier run left it."""
        return earlier.state == "done" and path.is_file() and _file_digest(path) == earlier.sha256

    def _write(self, path: Path, wav: Tensor, rate: int) -> str:
        """Write a sound, whole or not at all, and give its sha256."""
        part = self.folder / PARTS / f"{secrets.token_hex(8)}{path.suffix}"
        try:
            with warnings.catch_warnings(record=True) as caught:
                write(part, wav, rate)
            for each in caught:
                warnings.warn(str(each.message).replace(str(part), str(path)), each.category, stacklevel=2)
            digest = _file_digest(part)
            path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(path)
        except (ValueError, OSError) as error:
            raise type(error)(str(error).replace(str(part), str(path))) from error
        finally:
            part.unlink(missing_ok=True)
        return digest


class _Heard:
    """A source, read and heard when that is first needed."""

    def __init__(self, converter: Converter, digests: "_Digests", source: Source) -> None:
        self._converter, self._digests, self._source = converter, digests, source

    @cached_property
    def digest(self) -> str:
        return self._digests.source(self._source)

    @cached_property
    def heard(self) -> Any:
        return self._converter.encode(self._source)


class _Voices:
    """Voices, of which the last few stay in memory; what recordings become is kept in a folder."""

    def __init__(self, converter: Converter, folder: Path) -> None:
        self._converter, self._folder = converter, folder
        self._kept: OrderedDict[str, Voice] = OrderedDict()

    def __call__(self, digest: str, target: Target) -> Voice:
        if digest not in self._kept:
            self._kept[digest] = target if isinstance(target, Voice) else self._load(digest, target)
        self._kept.move_to_end(digest)
        if len(self._kept) > VOICES:
            self._kept.popitem(last=False)
        return self._kept[digest]

    def _load(self, digest: str, target: Any) -> Voice:
        if not isinstance(target, list):
            return Voice.load(target)
        path = self._folder / f"{digest}.voice"
        if not path.exists():
            self._converter.enroll(target, name=text(target)).save(path)
        return Voice.load(path)


class _Digests:
    """Fingerprints of what is given; those of files and voices are computed once."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, int, int], str] = {}
        self._voices: WeakKeyDictionary[Voice, str] = WeakKeyDictionary()

    def source(self, source: Source) -> str:
        if isinstance(source, str | os.PathLike):
            return self._path(Path(source))
        sound, rate = source if isinstance(source, tuple) else (source, 0)
        samples = sound.numpy(force=True) if isinstance(sound, Tensor) else np.asarray(sound)
        return _mark([str(samples.dtype), samples.shape, rate], samples)

    def target(self, target: Target) -> str:
        if isinstance(target, list):
            return _mark([self.source(each) for each in target])
        if not isinstance(target, Voice):
            return self._path(Path(target))
        if target not in self._voices:
            facts = (target.name, target.spec, target.made_by, target.origins, target.pitch, target.findings)
            parts = [part for part in (target.frames, target.synthesis) if part is not None]
            self._voices[target] = _mark(facts, *(_bytes(part) for part in parts))
        return self._voices[target]

    def _path(self, path: Path) -> str:
        if path.is_dir():
            return _mark([self._path(each) for each in sorted(path.rglob("*")) if each.is_file()])
        if not path.is_file():
            return ""  # who reads it has the right words
        facts = path.stat()
        key = str(path), facts.st_mtime_ns, facts.st_size
        if key not in self._files:
            self._files[key] = _file_digest(path)
        return self._files[key]


def _models(converter: Converter) -> str:
    """Fingerprint of what a conversion depends on beside its job."""
    vocoder = converter.vocoder
    weights = vocoder.state_dict() if isinstance(vocoder, torch.nn.Module) else {}
    made_by = converter.extractor.spec, dict(converter.analysis.made_by), dict(vocoder.reads)
    way = repr(converter.matcher), converter.approximate, type(vocoder).__name__, vocoder.sample_rate
    return _mark([made_by, way, list(weights)], *(_bytes(part) for part in weights.values()))


def _mark(facts: Any, *arrays: Any) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    return tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rounded(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else round(number, 6)
