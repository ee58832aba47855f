"""Many conversions: one bad file never stops the rest, and a run that was killed goes on where it was.

    jobs --> those of one source together, the longest first --> an engine --> outputs, and a row of the report for each

Every output appears whole, with its sha256 in the report. An engine says where the work is done: here, or on Ray
(`ssl_vc.batch.ray_engine`). What comes out is the same bytes in any order, alone, and after any number of
interruptions.
"""

import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, TypeAlias

from ssl_vc.audio import Source
from ssl_vc.batch.jobs import PARTS, Job, Result, Task, paths, plan
from ssl_vc.batch.worker import Converter, Worker
from ssl_vc.options import check_options, parsed

__all__ = ["Engine", "Job", "Local", "Result", "convert_batch", "run_batch"]

Groups: TypeAlias = Sequence[Sequence[Task]]
Results: TypeAlias = Generator[Result, None, None]

ROWS, TABLE = "report.jsonl", "report.csv"
LOCK = "lock"
TABLE_EVERY = 10  # seconds


class Engine(Protocol):
    """Anything that does jobs."""

    def __call__(self, groups: Groups, folder: Path, options: Mapping[str, Any]) -> Results:
        """Do all jobs, in any order, and say what became of each.

        Args:
            groups: the jobs, those of one source together.
            folder: of the outputs.
            options: of all jobs that do not say otherwise.
        """


class Local(NamedTuple):
    """Does jobs in this process.

    Attributes:
        make: gives the converter.
    """

    make: Callable[[], Converter]

    def __call__(self, groups: Groups, folder: Path, options: Mapping[str, Any]) -> Results:
        """Do all jobs; see `Engine`."""
        worker = Worker(self.make(), folder, options)
        for group in groups:
            yield from worker(group)


def convert_batch(
    converter: Converter,
    jobs: Iterable[Job | tuple[Any, ...]],
    folder: str | os.PathLike[str],
    resume: bool = False,
    *,
    force: bool = False,
    **options: Any,
) -> Iterator[Result]:
    """Do jobs with a converter, in this process; see `run_batch`."""
    return run_batch(Local(lambda: converter), jobs, folder, resume, force=force, **options)


def run_batch(
    engine: Engine,
    jobs: Iterable[Job | tuple[Any, ...]],
    folder: str | os.PathLike[str],
    resume: bool = False,
    *,
    force: bool = False,
    **options: Any,
) -> Iterator[Result]:
    """Do jobs, and say what became of each as it ends; the same goes to report.jsonl and report.csv in the folder.

    Args:
        engine: where the work is done.
        jobs: `Job`s, or (source, voice, name).
        folder: of the outputs; a second batch in it is refused while one runs.
        resume: go on with what is there: a job is skipped if nothing that it depends on has changed since the report
            was written, nor its output.
        force: make everything, whatever is there.
        options: of `VoiceConverter.convert`, for all jobs that do not say otherwise.
    """
    if resume and force:
        raise ValueError("resume keeps what is there and force makes it again; give one of them.")
    check_options(options)
    return _run(engine, plan(jobs), Path(folder), resume, force, parsed(options))


def _run(
    engine: Engine, tasks: Sequence[Task], folder: Path, resume: bool, force: bool, options: Mapping[str, Any]
) -> Results:
    with _alone(folder):
        _refuse(tasks, folder, resume or force)
        report = _Report(folder, [task.output for task in tasks], resume)
        groups = _groups(task._replace(earlier=report.rows.get(task.output)) for task in tasks)
        with closing(report), closing(engine(groups, folder, options)) as results:
            for result in results:
                report.add(result)
                yield result


def _refuse(tasks: Sequence[Task], folder: Path, overwrite: bool) -> None:
    """Refuse to overwrite what was not made here, or, unless it may be, what was."""
    given = {os.path.realpath(path) for task in tasks for path in paths(task.job.source) + paths(task.job.voice)}
    for output in (folder / task.output for task in tasks):
        if os.path.realpath(output) in given:
            raise ValueError(f"{output} is both read and written; take another folder or name.")
    existing = [path for path in (folder / name for name in (ROWS, *(task.output for task in tasks))) if path.exists()]
    if existing and not overwrite:
        raise ValueError(f"{existing[0]} exists; resume goes on with what is there, force makes it again.")


def _groups(tasks: Iterable[Task]) -> list[list[Task]]:
    """Put the jobs of one source together, and sources of about one length, the longest first."""
    groups: dict[str | int, list[Task]] = {}
    for task in tasks:
        source = task.job.source
        groups.setdefault(os.fspath(source) if isinstance(source, str | os.PathLike) else id(source), []).append(task)
    return sorted(groups.values(), key=lambda group: -_size(group[0].job.source).bit_length())


def _size(source: Source) -> int:
    if isinstance(source, str | os.PathLike):
        return Path(source).stat().st_size if Path(source).is_file() else 0
    return len(source[0] if isinstance(source, tuple) else source)


class _Report:
    """A row for each output: a line of JSON as soon as it is there, and all of them as a table now and then."""

    def __init__(self, folder: Path, order: Sequence[str], resume: bool) -> None:
        self._path, self._table = folder / ROWS, folder / TABLE
        self._place = {output: place for place, output in enumerate(order)}
        self.rows = {row.output: row for row in _read(self._path)} if resume else {}
        self._write_rows()
        self._file = self._path.open("a", encoding="utf-8")
        self._written = time.monotonic()

    def add(self, row: Result) -> None:
        if row.state == "skipped":  # its row is there
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
        else:  # nothing began
            self._path.unlink()

    def _sorted(self) -> list[Result]:
        """In the jobs' order; then what earlier runs made beside."""
        return sorted(self.rows.values(), key=lambda row: self._place.get(row.output, len(self._place)))

    def _write_rows(self) -> None:
        """Write one line for each output; what is appended may be a second one, or torn."""
        self._replace(self._path, "".join(map(_line, self._sorted())))

    def _write_table(self) -> None:
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow(Result._fields)
        writer.writerows(row._replace(warnings=" ".join(row.warnings)) for row in self._sorted())
        self._replace(self._table, table.getvalue())
        self._written = time.monotonic()

    def _replace(self, path: Path, content: str) -> None:
        part = path.parent / PARTS / path.name  # where the next run clears what this one leaves if it is killed
        part.write_text(content, encoding="utf-8", errors="replace", newline="")
        part.replace(path)


def _line(row: Result) -> str:
    return json.dumps(row._asdict()) + "\n"


def _read(path: Path) -> Iterator[Result]:
    """Give the rows of a report; a line that was torn is none."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            yield Result(**json.loads(line))
        except (ValueError, TypeError):
            continue


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder for one run, with an empty folder for what is not finished in it."""
    parts, new = folder / PARTS, not folder.exists()
    try:
        lock = _lock(parts)
        _clear(parts)  # of what a run that was killed left
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{folder} cannot hold outputs: {reason}; check the folder, its permissions and disk.") from error
    with lock:
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not remove what is open; another run may already be there
                _clear(parts)
                (parts / LOCK).unlink()
                parts.rmdir()
                if new:
                    folder.rmdir()  # fails if it holds anything


def _clear(parts: Path) -> None:
    for path in parts.iterdir():
        if path.name != LOCK:
            path.unlink(missing_ok=True)


def _lock(parts: Path) -> IO[bytes]:
    """Lock a file in the folder. The system unlocks it when the process ends, in whatever way."""
    while True:
        with suppress(FileExistsError):
            parts.mkdir(parents=True)
        with suppress(FileNotFoundError):  # the run before is just removing the file or the folder
            file = (parts / LOCK).open("ab")
            if not _locked(file):
                file.close()
                raise ValueError(f"another batch runs in {parts.parent}; wait for its end, or take another folder.")
            with ExitStack() as stack:
                stack.enter_context(file)
                if os.path.samestat(os.fstat(file.fileno()), (parts / LOCK).stat()):
                    stack.pop_all()
                    return file


def _locked(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
