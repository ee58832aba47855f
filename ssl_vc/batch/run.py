"""Run a batch: one bad file never stops the rest, and a killed run can be resumed.

    jobs --> grouped by source, longest first --> engine --> outputs, each with a row of the report

Outputs are written atomically, with their sha256 in the report. An engine runs the jobs in this process or on Ray
(`ssl_vc.batch.ray_engine`). Outputs are bit-identical in any order, alone, and after any number of interruptions.
"""

import json
import os
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from ssl_vc.audio import CONTAINERS, Source, raw_data
from ssl_vc.batch.jobs import PARTS, Job, PlannedJob, Result, input_paths, plan_jobs
from ssl_vc.batch.worker import Converter, Worker
from ssl_vc.files import locked, require_file
from ssl_vc.options import check_options, parse_options
from ssl_vc.tables import format_csv

__all__ = ["Engine", "Job", "LocalEngine", "Result", "convert_batch", "run_batch"]

Groups: TypeAlias = Sequence[Sequence[PlannedJob]]
Results: TypeAlias = Generator[Result, None, None]

ROWS, TABLE = "report.jsonl", "report.csv"
LOCK = "lock"
SUFFIXES = "|".join(map(re.escape, CONTAINERS))
OWN = re.compile(  # files in the subfolder: reports, outputs (see `Worker`), voices, and what `replacing` makes of them
    rf"report\.(?:jsonl|csv)|[0-9a-f]{{16}}(?:{SUFFIXES})|[0-9a-f]{{64}}\.voice|\.[0-9a-f]{{16}}\.part(?:{SUFFIXES}|\.voice)",
    re.IGNORECASE,  # of a job's suffix
)
TABLE_EVERY = 10  # seconds
MAX_CHUNK = 8  # jobs that a worker is given at a time
TRIES = 3  # of a job that kills its workers


class Engine(Protocol):
    """Runs jobs."""

    def __call__(self, groups: Groups, folder: Path, options: Mapping[str, Any]) -> Results:
        """Run all jobs in any order; yields their results.

        Args:
            groups: the jobs, grouped by source.
            folder: of the outputs.
            options: defaults of all jobs.
        """


class LocalEngine(NamedTuple):
    """Runs jobs in this process.

    Attributes:
        load_converter: called once.
    """

    load_converter: Callable[[], Converter]

    def __call__(self, groups: Groups, folder: Path, options: Mapping[str, Any]) -> Results:
        """Run all jobs; see `Engine`."""
        worker = Worker(self.load_converter(), folder, options)
        for group in groups:
            yield from worker(group)


def chunked(groups: Groups, workers: int) -> Iterator[Sequence[PlannedJob]]:
    """Yield chunks of one source, several for each worker, so that all end at about the same time."""
    size = -(-sum(map(len, groups)) // (4 * workers))
    size = max(1, min(size, MAX_CHUNK))
    for group in groups:
        for start in range(0, len(group), size):
            yield group[start : start + size]


def died(job: PlannedJob) -> Result:
    """Return the result of a job whose workers died."""
    return job.result("failed", error=f"its worker died {TRIES} times on this job; try it alone, with one worker.")


def convert_batch(
    converter: Converter,
    jobs: Iterable[Job | tuple[Any, ...]],
    folder: str | os.PathLike[str],
    resume: bool = False,
    *,
    force: bool = False,
    **options: Any,
) -> Iterator[Result]:
    """Run jobs with a converter in this process; see `run_batch`."""
    return run_batch(LocalEngine(lambda: converter), jobs, folder, resume, force=force, **options)


def run_batch(
    engine: Engine,
    jobs: Iterable[Job | tuple[Any, ...]],
    folder: str | os.PathLike[str],
    resume: bool = False,
    *,
    force: bool = False,
    **options: Any,
) -> Iterator[Result]:
    """Run jobs; yields each result, which is also written to report.jsonl and report.csv in the folder.

    Args:
        engine: runs the jobs.
        jobs: `Job`s, or (source, voice, name).
        folder: of the outputs; only one batch may run in it at a time.
        resume: skip the jobs whose inputs, options, models and output are unchanged since the report was written.
        force: run all jobs, and overwrite existing outputs.
        options: of `VoiceConverter.convert`, defaults of all jobs.
    """
    if resume and force:
        raise ValueError("resume keeps existing outputs and force overwrites them; use one of them.")
    check_options(options)
    return _run(engine, plan_jobs(jobs), Path(folder), resume, force, parse_options(options))


def _run(
    engine: Engine, jobs: Sequence[PlannedJob], folder: Path, resume: bool, force: bool, options: Mapping[str, Any]
) -> Results:
    with _exclusive(folder):
        _check_outputs(jobs, folder, resume or force)
        report = _Report(folder, [job.output for job in jobs], resume)
        groups = _group_by_source(job._replace(earlier=report.rows.get(job.output)) for job in jobs)
        with closing(report), closing(engine(groups, folder, options)) as results:
            for result in results:
                report.add(result)
                yield result


def _check_outputs(jobs: Sequence[PlannedJob], folder: Path, overwrite: bool) -> None:
    """Refuse to overwrite inputs, and existing outputs unless allowed."""
    sources = [source for each in jobs for source in (each.job.source, each.job.voice)]
    inputs = {os.path.realpath(path) for source in sources for path in input_paths(source)}
    for output in (folder / job.output for job in jobs):
        if os.path.realpath(output) in inputs:
            raise ValueError(f"{output} is both an input and an output; use another folder or name.")
    existing = [path for path in (folder / name for name in (ROWS, *(job.output for job in jobs))) if path.exists()]
    if existing and not overwrite:
        raise ValueError(f"{existing[0]} exists; resume skips finished jobs, force overwrites them.")


def _group_by_source(jobs: Iterable[PlannedJob]) -> list[list[PlannedJob]]:
    """Group jobs by source, roughly the longest sources first."""
    groups: dict[str | int, list[PlannedJob]] = {}
    for job in jobs:
        source = job.job.source
        groups.setdefault(os.fspath(source) if isinstance(source, str | os.PathLike) else id(source), []).append(job)
    return sorted(groups.values(), key=lambda group: -_size(group[0].job.source).bit_length())


def _size(source: Source) -> int:
    if isinstance(source, str | os.PathLike):
        return Path(source).stat().st_size if Path(source).is_file() else 0
    return len(raw_data(source))


class _Report:
    """A row for each output: appended at once as a line of JSON, and regularly written as a table."""

    def __init__(self, folder: Path, order: Sequence[str], resume: bool) -> None:
        self._path, self._table = folder / ROWS, folder / TABLE
        self._index = {output: index for index, output in enumerate(order)}
        self.rows = {row.output: row for row in _read(self._path)} if resume else {}
        self._write_rows()
        self._file = self._path.open("a", encoding="utf-8")
        self._written = time.monotonic()

    def add(self, row: Result) -> None:
        if row.state == "skipped":  # its row exists
            return
        self.rows[row.output] = row
        self._file.write(_line(row))
        self._file.flush()
        if time.monotonic() - self._written > TABLE_EVERY:
            self._write_table()

    def close(self) -> None:
        self._file.close()
        if self.rows:
            self._write_rows()
            self._write_table()
        else:  # nothing was run
            self._path.unlink()

    def _sorted(self) -> list[Result]:
        """In the order of the jobs; outputs of earlier runs last."""
        return sorted(self.rows.values(), key=lambda row: self._index.get(row.output, len(self._index)))

    def _write_rows(self) -> None:
        """Rewrite one line per output; appended lines may be duplicates or truncated."""
        self._replace(self._path, "".join(map(_line, self._sorted())))

    def _write_table(self) -> None:
        rows = (row._asdict() | {"warnings": " ".join(row.warnings)} for row in self._sorted())
        self._replace(self._table, format_csv(Result._fields, rows))
        self._written = time.monotonic()

    def _replace(self, path: Path, content: str) -> None:
        part = path.parent / PARTS / path.name  # the next run clears this folder if this one is killed
        part.write_text(content, encoding="utf-8", errors="replace", newline="")
        part.replace(path)


def _line(row: Result) -> str:
    return json.dumps(row._asdict()) + "\n"


def _read(path: Path) -> Iterator[Result]:
    """Read the rows of a report; truncated lines are skipped."""
    if not os.path.lexists(path):
        return
    with require_file(path).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = Result(**json.loads(line))
                texts = [row.source, row.voice, row.output, row.state, row.error, row.sha256, row.job, *row.warnings]
            except (ValueError, TypeError, RecursionError):
                continue
            if all(isinstance(text, str) for text in texts):
                yield row


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Lock a folder for one run, with a subfolder for unfinished files."""
    parts, new = folder / PARTS, not folder.exists()
    if parts.is_symlink():
        raise ValueError(f"{parts} is a link, and unfinished files need a folder; remove it, or use another folder.")
    try:
        with locked(parts / LOCK, folder, "another batch is running"):
            try:
                _clear(parts)  # leftovers of a killed run
                yield
            finally:
                with suppress(OSError):  # somebody removed the folder
                    _clear(parts)
    finally:
        for empty in (parts, *([folder] if new else [])):
            with suppress(OSError):  # it is gone or not empty; another run may have started
                empty.rmdir()


def _clear(parts: Path) -> None:
    """Remove unfinished files; whatever else there is may be somebody's."""
    for path in parts.iterdir():
        if OWN.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with suppress(OSError):  # Windows does not remove open files
                path.unlink()
