"""Run a batch in several processes of this machine.

    jobs --> chunks of one source --> the next free process --> outputs, and rows of the report

A process that dies is replaced, and its chunk is retried job by job, so that only a job that kills it fails.
"""

import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ssl_vc.batch.jobs import PlannedJob, Result
from ssl_vc.batch.run import TRIES, Groups, Results, chunked, died
from ssl_vc.batch.worker import Converter, Worker


class ProcessEngine(NamedTuple):
    """Runs jobs in processes.

    Attributes:
        load_converter: called in each process; must be picklable.
        workers: how many.
        threads: of each process; if None, an equal share of this process's.
    """

    load_converter: Callable[[], Converter]
    workers: int
    threads: int | None = None

    def __call__(self, groups: Groups, folder: Path, options: Mapping[str, Any]) -> Results:
        """Run all jobs; see `ssl_vc.batch.run.Engine`."""
        chunks = list(chunked(groups, self.workers))
        count = min(self.workers, len(chunks))
        threads = self.threads or max(torch.get_num_threads() // max(count, 1), 1)
        started: list[_Process] = []

        def start() -> _Process:
            started.append(_Process(self.load_converter, folder, options, threads))
            return started[-1]

        try:
            yield from _distribute(start, count, chunks)
        finally:
            for process in started:
                process.end()


def _distribute(
    start: "Callable[[], _Process]", count: int, chunks: Iterable[Sequence[PlannedJob]]
) -> Iterator[Result]:
    """Distribute chunks to idle processes, and yield the results of their jobs."""
    waiting, idle = deque(chunks), [start() for _ in range(count)]
    busy: dict[Connection, tuple[_Process, Sequence[PlannedJob]]] = {}
    deaths = Counter[str]()
    while waiting or busy:
        while waiting and idle:
            process, chunk = idle.pop(), waiting.popleft()
            process.give(chunk)
            busy[process.connection] = process, chunk
        for connection in wait(list(busy)):
            assert isinstance(connection, Connection)
            process, chunk = busy.pop(connection)
            results = process.results()
            idle.append(process if results is not None else start())
            if results is None and len(chunk) == 1 and deaths[chunk[0].output] == TRIES - 1:
                results = [died(chunk[0])]
            elif results is None:  # one of its jobs may be the cause
                deaths.update(job.output for job in chunk)
                waiting.extend([job] for job in chunk)
            yield from results or ()


class _Process:
    """A process that runs chunks, one at a time."""

    def __init__(self, *settings: Any) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, *settings), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is noticed

    def give(self, chunk: Sequence[PlannedJob]) -> None:
        with suppress(OSError):  # it has died, which `results` says
            self.connection.send(chunk)

    def results(self) -> list[Result] | None:
        """Return the results of its chunk, None if the process has died; raises errors that belong to no job."""
        try:
            received: list[Result] | Exception = self.connection.recv()
        except (EOFError, OSError):
            return None
        if isinstance(received, Exception):  # such as a missing model
            raise received
        return received

    def end(self) -> None:
        self.connection.close()
        self._process.kill()
        self._process.join()


def _work(
    connection: Connection,
    load_converter: Callable[[], Converter],
    folder: Path,
    options: Mapping[str, Any],
    threads: int,
) -> None:
    """Run the chunks that arrive until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and the first of them ends the rest
    torch.set_num_threads(threads)
    with suppress(EOFError, OSError):
        try:
            worker = Worker(load_converter(), folder, options)
        except (ValueError, OSError) as error:
            connection.send(error)
            return
        while True:
            connection.send(list(worker(connection.recv())))
