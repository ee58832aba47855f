"""Chunks of jobs on processes that may die."""

from multiprocessing import Pipe

import pytest

from ssl_vc.batch import process_engine
from ssl_vc.batch.jobs import Job, PlannedJob
from ssl_vc.batch.run import TRIES, chunked


class Fake:
    """A process that runs a chunk at once, and dies of jobs whose source is `deadly`."""

    started: list["Fake"]

    def __init__(self):
        self.connection, self._theirs = Pipe()
        self.chunks = []
        Fake.started.append(self)

    def give(self, chunk):
        self.chunks.append(chunk)
        if any(job.job.source == "deadly" for job in chunk):
            self._theirs.close()
        elif any(job.job.source == "no model" for job in chunk):
            self._theirs.send(ValueError("there is no model"))
        else:
            self._theirs.send([job.result("done") for job in chunk])

    results = process_engine._Process.results


@pytest.fixture(autouse=True)
def nothing_started():
    Fake.started = []


def planned(*sources):
    return [PlannedJob(Job(source, "anna.voice"), f"{number}.wav") for number, source in enumerate(sources)]


def test_only_the_job_that_kills_its_workers_fails():
    results = list(process_engine._distribute(Fake, 2, [planned("a", "deadly", "b"), planned("c")]))
    assert sorted((result.source, result.state) for result in results) == [
        *((name, "done") for name in "abc"),
        ("deadly", "failed"),
    ]
    assert sum(job.job.source == "deadly" for fake in Fake.started for chunk in fake.chunks for job in chunk) == TRIES
    assert f"died {TRIES} times on this job" in next(each.error for each in results if each.error)


def test_an_error_of_no_job_ends_the_batch():
    with pytest.raises(ValueError, match="there is no model"):
        list(process_engine._distribute(Fake, 1, [planned("no model")]))


def test_chunks_are_of_one_source_and_end_together():
    groups = [planned(*"aaaaaaaaaa"), planned("b")]
    assert [len(chunk) for chunk in chunked(groups, 1)] == [3, 3, 3, 1, 1]
    assert max(map(len, chunked([planned(*"a" * 400)], 2))) == 8
