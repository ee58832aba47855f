"""A worker of a batch: encodes a source once, and converts it to one voice after another.

Sources are never batched in one tensor: that would speed up short clips, but change the last bits, and the output of a
job must not depend on the rest of the batch.
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

from ssl_vc.audio import Source, raw_data, write
from ssl_vc.batch.jobs import PARTS, PlannedJob, Result, VoiceSource, describe
from ssl_vc.features.analysis import Analysis
from ssl_vc.features.extractor import Extractor
from ssl_vc.options import parse_options
from ssl_vc.voice.voice import Voice
from vocoder.protocol import Vocoder

VOICES = 8  # kept in memory


class Converter(Protocol):
    """The parts of a `VoiceConverter` that a worker uses."""

    @property
    def extractor(self) -> Extractor:
        """Extracts the frames."""

    @property
    def matcher(self) -> object:
        """Default matcher."""

    @property
    def approximate(self) -> bool:
        """Whether neighbours are searched with an index."""

    @property
    def analysis(self) -> Analysis:
        """Extracts the frames of the vocoder."""

    @property
    def vocoder(self) -> Vocoder:
        """Vocodes."""

    @property
    def encode(self) -> Callable[[Source], Any]:
        """Encodes a source once, for many voices."""

    @property
    def convert_detailed(self) -> Callable[..., Any]:
        """Converts an encoded source to a voice, with diagnostics."""

    @property
    def enroll(self) -> Callable[..., Voice]:
        """Enrolls recordings as a voice."""


class Worker:
    """Runs jobs, one source at a time.

    Args:
        converter: converts.
        folder: of the outputs, with a subfolder for unfinished files.
        options: defaults of all jobs.
    """

    def __init__(self, converter: Converter, folder: Path, options: Mapping[str, Any]) -> None:
        self.converter, self.folder, self.options = converter, folder, options
        self._fingerprints = _Fingerprints()
        self._voices = _VoiceCache(converter, folder / PARTS)
        self._models = _models_fingerprint(converter)

    def __call__(self, jobs: Sequence[PlannedJob]) -> Iterator[Result]:
        """Run jobs of one source; yields their results, and goes on after failures."""
        source = _LazySource(self.converter, self._fingerprints, jobs[0].job.source)
        for job in jobs:
            start = time.perf_counter()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                try:
                    result = self._run(job, source)
                except Exception as error:  # one bad file, or a bug of ours, never stops the rest
                    known = isinstance(error, ValueError | OSError)
                    message = " ".join((str(error) if known else f"{type(error).__name__}: {error}").split())
                    result = job.result("failed", error=message)
            if result.state == "skipped":
                yield result
                continue
            taken = time.perf_counter() - start
            messages = (*result.warnings, *(" ".join(str(each.message).split()) for each in caught))
            speed = result.seconds and round(result.seconds / taken, 2)
            yield result._replace(taken=round(taken, 3), speed_factor=speed, warnings=messages)

    def _run(self, planned: PlannedJob, source: "_LazySource") -> Result:
        job, path = planned.job, self.folder / planned.output
        if (isinstance(job.source, str) and not job.source) or job.voice in ("", []):
            raise ValueError("the job lacks a source or a voice; name an audio file, and a voice file or recordings.")
        options = parse_options({**self.options, **job.options})
        voice = self._fingerprints.voice(job.voice)
        fingerprint = _fingerprint([source.fingerprint, voice, options, path.suffix.lower(), self._models])
        if planned.earlier and planned.earlier.job == fingerprint and self._is_intact(planned.earlier, path):
            return planned.earlier._replace(state="skipped")
        converted = self.converter.convert_detailed(source.encoded, self._voices(voice, job.voice), **options)
        sha256 = self._write(path, converted.wav, converted.sample_rate)
        numbers = {name: _rounded(getattr(converted, name)) for name in ("distance", "coverage", "jump", "source_jump")}
        seconds = round(len(converted.wav) / converted.sample_rate, 3)
        fields = {"matcher": converted.matcher, "warnings": converted.warnings, "sha256": sha256, "job": fingerprint}
        return planned.result("done", seconds=seconds, **fields, **numbers)

    def _is_intact(self, earlier: Result, path: Path) -> bool:
        """Returns whether an output is unchanged since an earlier run."""
        return earlier.state == "done" and path.is_file() and _file_digest(path) == earlier.sha256

    def _write(self, path: Path, wav: Tensor, rate: int) -> str:
        """Write audio atomically; returns its sha256."""
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


class _LazySource:
    """A source that is read and encoded on first use."""

    def __init__(self, converter: Converter, fingerprints: "_Fingerprints", source: Source) -> None:
        self._converter, self._fingerprints, self._source = converter, fingerprints, source

    @cached_property
    def fingerprint(self) -> str:
        return self._fingerprints.source(self._source)

    @cached_property
    def encoded(self) -> Any:
        return self._converter.encode(self._source)


class _VoiceCache:
    """Keeps the last few voices in memory, and those enrolled from recordings in a folder."""

    def __init__(self, converter: Converter, folder: Path) -> None:
        self._converter, self._folder = converter, folder
        self._kept: OrderedDict[str, Voice] = OrderedDict()

    def __call__(self, digest: str, target: VoiceSource) -> Voice:
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
            self._converter.enroll(target, name=describe(target)).save(path)
        return Voice.load(path)


class _Fingerprints:
    """Fingerprints of sources and voices, cached for files and voices."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, int, int], str] = {}
        self._voices: WeakKeyDictionary[Voice, str] = WeakKeyDictionary()

    def source(self, source: Source) -> str:
        if isinstance(source, str | os.PathLike):
            return self._path(Path(source))
        rate = source[1] if isinstance(source, tuple) else 0 if isinstance(source, Tensor | np.ndarray) else "file"
        data = raw_data(source)
        return _fingerprint([str(data.dtype), data.shape, rate], data)

    def voice(self, target: VoiceSource) -> str:
        if isinstance(target, list):
            return _fingerprint([self.source(each) for each in target])
        if not isinstance(target, Voice):
            return self._path(Path(target))
        if target not in self._voices:
            facts = (target.name, target.spec, target.synthesis_spec, target.origins, target.pitch, target.findings)
            parts = [part for part in (target.frames, target.synthesis) if part is not None]
            self._voices[target] = _fingerprint(facts, *(_bytes(part) for part in parts))
        return self._voices[target]

    def _path(self, path: Path) -> str:
        if path.is_dir():
            return _fingerprint([self._path(each) for each in sorted(path.rglob("*")) if each.is_file()])
        if not path.is_file():
            return ""  # reading it raises the right error
        facts = path.stat()
        key = str(path), facts.st_mtime_ns, facts.st_size
        if key not in self._files:
            self._files[key] = _file_digest(path)
        return self._files[key]


def _models_fingerprint(converter: Converter) -> str:
    """Fingerprint of everything but the job that a conversion depends on."""
    vocoder = converter.vocoder
    weights = vocoder.state_dict() if isinstance(vocoder, torch.nn.Module) else {}
    features = converter.extractor.spec, dict(converter.analysis.feature_spec), dict(vocoder.reads)
    settings = repr(converter.matcher), converter.approximate, type(vocoder).__name__, vocoder.sample_rate
    return _fingerprint([features, settings, list(weights)], *(_bytes(part) for part in weights.values()))


def _fingerprint(facts: Any, *arrays: Any) -> str:
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
