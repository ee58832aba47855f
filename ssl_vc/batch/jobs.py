"""Jobs of a batch, and their results."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TypeAlias

from ssl_vc.audio import CONTAINERS, Source
from ssl_vc.files import FORBIDDEN, printable, safe_filename
from ssl_vc.options import OPTIONS, check_options
from ssl_vc.tables import check_header, named_cells
from ssl_vc.voice.voice import Voice

PARTS = ".batch"  # subfolder for unfinished files
COLUMNS = ("source", "voice", "target", "name", *OPTIONS)
VoiceSource: TypeAlias = Voice | str | os.PathLike[str] | list[Source]


@dataclass(frozen=True)
class Job:
    """One conversion.

    Attributes:
        source: audio to convert, see `ssl_vc.read`.
        voice: the target: a voice, the path of a voice file, or a list of recordings of the speaker.
        name: of the output, relative to the output folder; the suffix sets the format, .wav by default. SOURCE__VOICE
            if "".
        options: of `VoiceConverter.convert`, as values or text.
    """

    source: Source
    voice: VoiceSource
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


class Result(NamedTuple):
    """Result of a job: a row of the report.

    Attributes:
        source: of the job.
        voice: of the job; recordings are separated by semicolons.
        output: file, relative to the output folder.
        state: `done`, `failed`, or `skipped` if an earlier run did it (`done` in the report).
        seconds: duration of the output.
        taken: computing time in seconds; the first job of a source includes its encoding.
        speed_factor: multiple of real time.
        matcher: the matcher used.
        distance: mean distance of the source's frames to their nearest neighbours.
        coverage: share of the source's frames farther from the voice than the voice's frames from each other.
        jump: discontinuity of the output's frames.
        source_jump: discontinuity of the source's frames.
        warnings: one sentence each.
        error: one sentence; "" if nothing failed.
        sha256: of the output.
        job: fingerprint of source, voice, options and models.
    """

    source: str
    voice: str
    output: str
    state: str
    seconds: float | None = None
    taken: float | None = None
    speed_factor: float | None = None
    matcher: str = ""
    distance: float | None = None
    coverage: float | None = None
    jump: float | None = None
    source_jump: float | None = None
    warnings: Sequence[str] = ()
    error: str = ""
    sha256: str = ""
    job: str = ""


class PlannedJob(NamedTuple):
    """A job with its output.

    Attributes:
        job: the job.
        output: file, relative to the output folder.
        earlier: result of an earlier run, if there is one.
    """

    job: Job
    output: str
    earlier: Result | None = None

    def result(self, state: str, **fields: Any) -> Result:
        """Returns the result of the job."""
        source, voice = describe(self.job.source), describe(self.job.voice)
        return Result(source=source, voice=voice, output=self.output, state=state, **fields)


def read_jobs(path: str | os.PathLike[str]) -> list[Job]:
    """Read jobs from a CSV file.

    Its columns are `source`; either `voice` (a voice file) or `target` (recordings separated by semicolons); and
    optionally `name` and the options of `VoiceConverter.convert`. Paths are relative to the working directory.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no file {str(path)!r}; name a CSV file of jobs.")
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(lines, [])]
            complete = "source" in header and {"voice", "target"} & {*header}
            check_header(header, path, COLUMNS, "" if complete else "source, and voice or target, with commas")
            jobs = [_job(dict(named_cells(row, header, where)), where) for row, where in _rows(lines, path)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}.") from None
    if not jobs:
        raise ValueError(f"{path} has no jobs; add a row for each below the header.")
    return jobs


def _rows(lines: Any, path: Any) -> Iterable[tuple[list[str], str]]:
    return ((row, f"line {lines.line_num} of {path}") for row in lines if any(cell.strip() for cell in row))


def _job(cells: dict[str, str], where: str) -> Job:
    if "voice" in cells and "target" in cells:
        raise ValueError(f"{where} has both a voice and a target; remove one.")
    recordings: list[Source] = [part.strip() for part in cells.get("target", "").split(";") if part.strip()]
    options = {name: cells[name] for name in OPTIONS if name in cells}
    return Job(cells.get("source", ""), cells.get("voice", recordings), cells.get("name", ""), options)


def plan_jobs(jobs: Iterable[Job | tuple[Any, ...]]) -> list[PlannedJob]:
    """Assign outputs to jobs; raises ValueError for bad names, equal outputs and unknown options."""
    planned: dict[str, PlannedJob] = {}
    for each in jobs:
        try:
            job = each if isinstance(each, Job) else Job(*each)
        except TypeError:
            raise ValueError(f"the job {each!r} is malformed; use (source, voice, name).") from None
        voice: object = job.voice
        if not isinstance(voice, Voice | str | os.PathLike | list):
            kind = type(voice).__name__
            raise ValueError(f"a voice is a {kind}; use a voice, the path of a voice file, or a list of recordings.")
        check_options(job.options)
        output = _output(job)
        key = output.casefold()  # equal names on a case-insensitive file system
        if key in planned:
            raise ValueError(f"two jobs have the output {output}; give them different names.")
        planned[key] = PlannedJob(job, output)
    return list(planned.values())


def _output(job: Job) -> str:
    name = job.name or safe_filename(f"{_stem(job.source)}__{_stem(job.voice)}")
    path = PurePath(name)
    if not path.name or path.is_absolute() or path.drive or ".." in path.parts or path.parts[0] == PARTS:
        raise ValueError(f"the name {name!r} is outside the output folder; use a relative path.")
    if not name.isprintable() or {*name} & {*FORBIDDEN}:
        raise ValueError(f"the name {name!r} has characters that are not portable; remove {' '.join(FORBIDDEN)}.")
    return path.as_posix() + ("" if path.suffix.lower() in CONTAINERS else ".wav")


def _stem(source: Source | VoiceSource) -> str:
    if isinstance(source, str | os.PathLike):
        return Path(source).stem
    if isinstance(source, list) and source:
        return _stem(source[0])
    return source.name if isinstance(source, Voice) else "sound"


def describe(source: Source | VoiceSource) -> str:
    """Returns a source or voice as printable text."""
    if isinstance(source, str | os.PathLike):
        return printable(source)
    if isinstance(source, list):
        return ";".join(map(describe, source))
    return source.name if isinstance(source, Voice) else "(samples)"


def input_paths(source: Source | VoiceSource) -> list[str]:
    """Returns the files of a source or voice."""
    if isinstance(source, list):
        return [path for part in source for path in input_paths(part)]
    return [os.fspath(source)] if isinstance(source, str | os.PathLike) else []
