"""A batch on Ray: as many workers as you like, on one machine or on many that see the same files.

    jobs --> a few of one source at a time --> whichever worker is free --> outputs; their rows come back

A worker that dies is started again, and what it was doing is done again. Workers compute with as many threads as this
process, since another number changes the last bits; on machines of one kind the bytes are those of the local engine.
"""

import math
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ssl_vc.batch.jobs import Result, Task
from ssl_vc.batch.run import Groups, Results
from ssl_vc.batch.worker import Converter, Worker
from ssl_vc.voice.voice import Voice

TRIES = 3  # before a job that kills its workers has failed
MOST = 8  # jobs handed out at a time
PASSIVE = "OMP_WAIT_POLICY", "PASSIVE"  # else threads that share a core spin


class OnRay(NamedTuple):
    """Does jobs on Ray: on the cluster that RAY_ADDRESS names, or on one of its own, on this machine.

    Attributes:
        make: gives the converter, in each worker; Ray must be able to send it there.
        workers: how many; if None, one for each GPU, or as many as the processors' cores are enough for.
        gpu: whether workers may use GPUs, which are then shared out among them.
    """

    make: Callable[[], Converter]
    workers: int | None = None
    gpu: bool = True

    def __call__(self, groups: Groups, folder: Path, options: Mapping[str, Any]) -> Results:
        """Do all jobs; see `ssl_vc.batch.run.Engine`."""
        ray = _ray()
        started, address = not ray.is_initialized(), os.environ.get("RAY_ADDRESS")
        if started:
            quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
            os.environ.setdefault(*PASSIVE)
            terminate = signal.getsignal(signal.SIGTERM)
            ray.init(address or "local", configure_logging=False, **({} if address else quiet))
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)  # Ray's own way with it is a page of addresses
        actors: list[Any] = []
        try:
            actors += self._start(ray, folder, options, started and not address)
            size = -(-sum(map(len, groups)) // (4 * len(actors)))
            yield from _share_out(ray, actors, _chunks(groups, max(1, min(size, MOST))))
        finally:
            for actor in actors:
                ray.kill(actor)
            if started:
                ray.shutdown()

    def _start(self, ray: Any, folder: Path, options: Mapping[str, Any], own: bool) -> list[Any]:
        there, threads = ray.cluster_resources(), torch.get_num_threads()
        gpus = int(there.get("GPU", 0)) if self.gpu else 0
        workers = self.workers or gpus or max(1, int(there.get("CPU", 1)) // threads)
        settings = {
            "max_restarts": -1,
            "max_task_retries": TRIES - 1,
            "scheduling_strategy": "SPREAD",
            "num_gpus": 1 / math.ceil(workers / gpus) if gpus else 0,
            "runtime_env": {} if own else {"env_vars": dict([PASSIVE])},  # takes seconds; here it is inherited
        }
        actor = ray.remote(**settings)(_Actor)
        return [actor.remote(self.make, Path.cwd(), folder, options, threads) for _ in range(workers)]


class _Actor:
    """A worker in a process of its own."""

    def __init__(
        self, make: Callable[[], Converter], here: Path, folder: Path, options: Mapping[str, Any], threads: int
    ) -> None:
        self._make, self._here, self._folder, self._options, self._threads = make, here, folder, options, threads

    @cached_property
    def _worker(self) -> Worker:
        os.chdir(self._here)  # paths start where the user is
        torch.set_num_threads(self._threads)
        return Worker(self._make(), self._folder, self._options)

    def do(self, tasks: Sequence[Task]) -> list[Result]:
        """Do jobs of one source; what goes wrong outside of any of them is raised."""
        ray = _ray()
        worker = self._worker
        fetched = []
        for task in tasks:
            voice: Any = task.job.voice
            sent = isinstance(voice, ray.ObjectRef)
            fetched.append(task._replace(job=replace(task.job, voice=ray.get(voice))) if sent else task)
        return list(worker(fetched))


def _chunks(groups: Groups, size: int) -> Iterator[Sequence[Task]]:
    for group in groups:
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _share_out(ray: Any, actors: Sequence[Any], chunks: Iterable[Sequence[Task]]) -> Iterator[Result]:
    """Give each worker some jobs, and more when it has done them."""
    waiting, idle = deque(chunks), list(actors)
    busy: dict[Any, tuple[Any, Sequence[Task]]] = {}
    voices: dict[int, Any] = {}
    while waiting or busy:
        while waiting and idle:
            actor, chunk = idle.pop(), waiting.popleft()
            busy[actor.do.remote([_sent(ray, task, voices) for task in chunk])] = actor, chunk
        (done, *_), _ = ray.wait(list(busy), num_returns=1)
        actor, chunk = busy.pop(done)
        try:
            results = ray.get(done)
        except ray.exceptions.RayTaskError as error:  # such as a model that is not there
            raise error.cause from None
        except ray.exceptions.ActorDiedError as error:  # for good: it could not begin
            if not busy and not idle:
                raise OSError(f"no worker could begin: {error}") from None
            waiting.append(chunk)
            continue
        except ray.exceptions.RayError:
            alone = len(chunk) == 1
            words = f"its worker died {TRIES} times while doing it; try it alone with the local engine."
            results = [chunk[0].result("failed", error=words)] if alone else []
            waiting.extend([] if alone else [[task] for task in chunk])  # one of them may be the reason
        idle.append(actor)
        yield from results


def _sent(ray: Any, task: Task, voices: dict[int, Any]) -> Task:
    """Replace a voice by a reference, so that it is sent once."""
    voice = task.job.voice
    if not isinstance(voice, Voice):
        return task
    if id(voice) not in voices:
        voices[id(voice)] = ray.put(voice)
    return task._replace(job=replace(task.job, voice=voices[id(voice)]))


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return import_module("ray")
    except ModuleNotFoundError:
        raise ValueError("the engine ray is not installed; pip install 'ssl-vc[scale]'.") from None
