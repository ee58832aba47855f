"""Run a batch on Ray: any number of workers, on one machine or on several that share the files.

    jobs --> chunks of one source --> the next free worker --> outputs, and rows of the report

A worker that dies is restarted, and its chunk is retried. Workers use as many threads as this process, as another
number changes the last bits; on machines of one kind the outputs are bit-identical to those of the local engine.
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

from ssl_vc.batch.jobs import PlannedJob, Result
from ssl_vc.batch.run import TRIES, Groups, Results, chunked, died
from ssl_vc.batch.worker import Converter, Worker
from ssl_vc.voice.voice import Voice

PASSIVE = "OMP_WAIT_POLICY", "PASSIVE"  # see `ssl_vc.process`


class RayEngine(NamedTuple):
    """Runs jobs on Ray: on the cluster at RAY_ADDRESS, or on a local one.

    Attributes:
        load_converter: called in each worker; must be picklable.
        workers: how many; if None, one per GPU, or as many as the cores allow.
        gpu: workers share the GPUs.
    """

    load_converter: Callable[[], Converter]
    workers: int | None = None
    gpu: bool = True

    def __call__(self, groups: Groups, folder: Path, options: Mapping[str, Any]) -> Results:
        """Run all jobs; see `ssl_vc.batch.run.Engine`."""
        ray = _ray()
        started, address = not ray.is_initialized(), os.environ.get("RAY_ADDRESS")
        if started:
            quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
            os.environ.setdefault(*PASSIVE)
            terminate = signal.getsignal(signal.SIGTERM)
            ray.init(address or "local", configure_logging=False, **({} if address else quiet))
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)  # Ray's handler prints a long stack trace
        actors: list[Any] = []
        try:
            actors += self._start(ray, folder, options, started and not address)
            yield from _distribute(ray, actors, chunked(groups, len(actors)))
        finally:
            for actor in actors:
                ray.kill(actor)
            if started:
                ray.shutdown()

    def _start(self, ray: Any, folder: Path, options: Mapping[str, Any], local: bool) -> list[Any]:
        resources, threads = ray.cluster_resources(), torch.get_num_threads()
        gpus = int(resources.get("GPU", 0)) if self.gpu else 0
        workers = self.workers or gpus or max(1, int(resources.get("CPU", 1)) // threads)
        settings = {
            "max_restarts": -1,
            "max_task_retries": TRIES - 1,
            "scheduling_strategy": "SPREAD",
            "num_gpus": 1 / math.ceil(workers / gpus) if gpus else 0,
            "runtime_env": {} if local else {"env_vars": dict([PASSIVE])},  # takes seconds, and is inherited locally
        }
        actor = ray.remote(**settings)(_Actor)
        return [actor.remote(self.load_converter, Path.cwd(), folder, options, threads) for _ in range(workers)]


class _Actor:
    """A worker in its own process."""

    def __init__(
        self, load_converter: Callable[[], Converter], cwd: Path, folder: Path, options: Mapping[str, Any], threads: int
    ) -> None:
        self._load_converter, self._cwd = load_converter, cwd
        self._folder, self._options, self._threads = folder, options, threads

    @cached_property
    def _worker(self) -> Worker:
        os.chdir(self._cwd)  # paths are relative to the caller's
        torch.set_num_threads(self._threads)
        return Worker(self._load_converter(), self._folder, self._options)

    def run(self, jobs: Sequence[PlannedJob]) -> list[Result]:
        """Run jobs of one source; raises errors that belong to none of them."""
        ray = _ray()
        worker = self._worker
        fetched = []
        for job in jobs:
            voice: Any = job.job.voice
            sent = isinstance(voice, ray.ObjectRef)
            fetched.append(job._replace(job=replace(job.job, voice=ray.get(voice))) if sent else job)
        return list(worker(fetched))


def _distribute(ray: Any, actors: Sequence[Any], chunks: Iterable[Sequence[PlannedJob]]) -> Iterator[Result]:
    """Assign a chunk to each idle worker until all are done."""
    waiting, idle = deque(chunks), list(actors)
    busy: dict[Any, tuple[Any, Sequence[PlannedJob]]] = {}
    voices: dict[int, Any] = {}
    while waiting or busy:
        while waiting and idle:
            actor, chunk = idle.pop(), waiting.popleft()
            busy[actor.run.remote([_by_reference(ray, job, voices) for job in chunk])] = actor, chunk
        (done, *_), _ = ray.wait(list(busy), num_returns=1)
        actor, chunk = busy.pop(done)
        try:
            results = ray.get(done)
        except ray.exceptions.RayTaskError as error:  # such as a missing model
            raise error.cause from None
        except ray.exceptions.ActorDiedError as error:  # for good: it could not start
            if not busy and not idle:
                raise OSError(f"no worker could start: {error}") from None
            waiting.append(chunk)
            continue
        except ray.exceptions.RayError:
            single = len(chunk) == 1
            results = [died(chunk[0])] if single else []
            waiting.extend([] if single else [[job] for job in chunk])  # one of them may be the cause
        idle.append(actor)
        yield from results


def _by_reference(ray: Any, job: PlannedJob, voices: dict[int, Any]) -> PlannedJob:
    """Replace the voice by a reference, so that it is sent once."""
    voice = job.job.voice
    if not isinstance(voice, Voice):
        return job
    if id(voice) not in voices:
        voices[id(voice)] = ray.put(voice)
    return job._replace(job=replace(job.job, voice=voices[id(voice)]))


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return import_module("ray")
    except ModuleNotFoundError:
        raise ValueError("the engine ray is not installed; pip install 'ssl-vc[scale]'.") from None
