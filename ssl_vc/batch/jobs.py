"""Jobs: what a batch is to do, and what became of it."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TypeAlias

from ssl_vc.audio import CONTAINERS, Source
from ssl_vc.files import FORBIDDEN, harmless, printable
from ssl_vc.options import OPTIONS, check_options
from ssl_vc.tables import check_header, named_cells
from ssl_vc.voice.voice import Voice

PARTS = ".batch"  # the folder for what is not finished, in the folder of the outputs
COLUMNS = ("source", "voice", "target", "name", *OPTIONS)
Target: TypeAlias = Voice | str | os.PathLike[str] | list[Source]


@dataclass(frozen=True)
class Job:
    """One conversion.

    Attributes:
        source: what is said, see `ssl_vc.read`.
        voice: who shall say it: a voice, the path of a voice's file, or a list of recordings of the speaker.
        name: of the output, below the batch's folder; its suffix decides the format, and is .wav if there is none.
            SOURCE__VOICE if empty.
        options: of `VoiceConverter.convert`, as values or as text.
    """

    source: Source
    voice: Target
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


class Result(NamedTuple):
    """What became of a job: a row of the report.

    Attributes:
        source: what was given.
        voice: what was given; recordings are separated by semicolons.
        output: the file, below the batch's folder.
        state: `done`, `failed`, or `skipped` because an earlier run did it; the report calls that `done`.
        seconds: how long the output lasts.
        taken: how many seconds the job took; the first job of a source hears it for all others.
        speed_factor: how many times faster than real time that is.
        matcher: which one was used.
        distance: mean distance of the source's frames to the nearest of the voice.
        coverage: share of the source's frames that are farther from the voice than the voice's frames from each other.
        jump: how little a frame of the output has to do with the one before.
        source_jump: the same of the source.
        warnings: a sentence each.
        error: a sentence; empty if nothing failed.
        sha256: of the output.
        job: fingerprint of the source, the voice, the options and the models.
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


class Task(NamedTuple):
    """A job with its place.

    Attributes:
        job: what is to be done.
        output: the file, below the batch's folder.
        earlier: what an earlier run said of that file, if there was one.
    """

    job: Job
    output: str
    earlier: Result | None = None

    def result(self, state: str, **facts: Any) -> Result:
        """Say what became of it."""
        return Result(text(self.job.source), text(self.job.voice), self.output, state, **facts)


def read_jobs(path: str | os.PathLike[str]) -> list[Job]:
    """Read jobs from a CSV file.

    Its columns are `source`; `voice` (a voice's file) or `target` (recordings, separated by semicolons), of which a row
    has one; and, as you like, `name` and the options of `VoiceConverter.convert`. Paths start where you are.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no file {str(path)!r}; give a CSV file of jobs.")
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(lines, [])]
            complete = "source" in header and {"voice", "target"} & {*header}
            check_header(header, path, COLUMNS, "" if complete else "source, and voice or target, with commas")
            jobs = [_job(dict(named_cells(row, header, where)), where) for row, where in _rows(lines, path)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}.") from None
    if not jobs:
        raise ValueError(f"{path} holds no jobs; give a line for each below its header.")
    return jobs


def _rows(lines: Any, path: Any) -> Iterable[tuple[list[str], str]]:
    return ((row, f"line {lines.line_num} of {path}") for row in lines if any(cell.strip() for cell in row))


def _job(cells: dict[str, str], where: str) -> Job:
    if "voice" in cells and "target" in cells:
        raise ValueError(f"{where} has a voice and a target; keep one of them.")
    recordings: list[Source] = [part.strip() for part in cells.get("target", "").split(";") if part.strip()]
    options = {name: cells[name] for name in OPTIONS if name in cells}
    return Job(cells.get("source", ""), cells.get("voice", recordings), cells.get("name", ""), options)


def plan(jobs: Iterable[Job | tuple[Any, ...]]) -> list[Task]:
    """Say where each job's output goes; refuse what can be nowhere, two jobs of one output, and unknown options."""
    tasks: dict[str, Task] = {}
    for given in jobs:
        try:
            job = given if isinstance(given, Job) else Job(*given)
        except TypeError:
            raise ValueError(f"the job {given!r} cannot be read; give (source, voice, name).") from None
        voice: object = job.voice
        if not isinstance(voice, Voice | str | os.PathLike | list):
            kind = type(voice).__name__
            raise ValueError(f"a voice is a {kind}; give a voice, the path of a voice's file, or a list of recordings.")
        check_options(job.options)
        output = _output(job)
        place = output.casefold()  # some disks take two such names for one
        if place in tasks:
            raise ValueError(f"two jobs have the output {output}; give them different names.")
        tasks[place] = Task(job, output)
    return list(tasks.values())


def _output(job: Job) -> str:
    name = job.name or harmless(f"{_stem(job.source)}__{_stem(job.voice)}")
    path = PurePath(name)
    if not path.name or path.is_absolute() or path.drive or ".." in path.parts or path.parts[0] == PARTS:
        raise ValueError(f"the name {name!r} is not below the folder of the outputs; give a relative path.")
    if not name.isprintable() or {*name} & {*FORBIDDEN}:
        raise ValueError(f"the name {name!r} holds what some systems refuse in names; leave out {' '.join(FORBIDDEN)}.")
    return path.as_posix() + ("" if path.suffix.lower() in CONTAINERS else ".wav")


def _stem(given: Source | Target) -> str:
    if isinstance(given, str | os.PathLike):
        return Path(given).stem
    if isinstance(given, list) and given:
        return _stem(given[0])
    return given.name if isinstance(given, Voice) else "sound"


def text(given: Source | Target) -> str:
    """Name what was given in text that any file takes."""
    if isinstance(given, str | os.PathLike):
        return printable(given)
    if isinstance(given, list):
        return ";".join(map(text, given))
    return given.name if isinstance(given, Voice) else "(samples)"


def paths(given: Source | Target) -> list[str]:
    """Give the files that are meant."""
    if isinstance(given, list):
        return [path for part in given for path in paths(part)]
    return [os.fspath(given)] if isinstance(given, str | os.PathLike) else []
