"""`ssl-vc batch`: what a user sees, and what is left when the power goes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import ssl_vc

MODEL = ("--model", "untrained", "--vocoder", "griffin-lim", "--device", "cpu")


def speech(path, seconds=0.4, seed=0):
    """Harmonics that come and go, so that there is something to match."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    pitch = 120 + 20 * seed + 30 * np.sin(5 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    wav = sum(np.sin(n * phase) / n for n in range(1, 12)) * (0.6 + 0.4 * np.sin(12 * time + seed))
    soundfile.write(path, 0.1 * wav, 16_000)
    return str(path)


@pytest.fixture
def jobs(tmp_path):
    """Two sources, a target and a voice: four jobs."""
    sources = [speech(tmp_path / f"{name}.wav", 0.4 + 0.2 * i, i) for i, name in enumerate("ab")]
    target = speech(tmp_path / "target.wav", 1.0, 3)
    voice = ssl_vc.VoiceConverter.from_pretrained("untrained", vocoder="griffin-lim", device="cpu").enroll(
        [speech(tmp_path / "recording.wav", 1.0, 4)], "anna"
    )
    voice.save(tmp_path / "anna.voice")
    lines = ["source,voice,target,name,k"]
    lines += [f"{source},{tmp_path}/anna.voice,,anna/{i},3" for i, source in enumerate(sources)]
    lines += [f"{source},,{target},,2" for source in sources]
    return write(tmp_path, lines)


def write(tmp_path, lines):
    (tmp_path / "jobs.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "jobs.csv"


def unwarned(err):
    """Give what is said beside warnings, of which short voices have some."""
    return "".join(line + "\n" for line in err.splitlines() if not line.startswith("warning: "))


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("report.")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_outputs_and_a_summary(run, tmp_path, jobs):
    status, out, err = run("batch", jobs, "-o", tmp_path / "out", *MODEL, "--matcher", "knn")
    assert (status, unwarned(err)) == (0, "")
    assert out.startswith("4 jobs: 4 done, 0 skipped, 0 failed; 2.0 s of sound in ")
    assert f" than real time); {tmp_path / 'out' / 'report.csv'}" in out
    assert sorted(contents(tmp_path / "out")) == ["a__target.wav", "anna/0.wav", "anna/1.wav", "b__target.wav"]
    converter = ssl_vc.VoiceConverter.from_pretrained("untrained", vocoder="griffin-lim", device="cpu")
    wav = converter.convert(tmp_path / "a.wav", ssl_vc.Voice.load(tmp_path / "anna.voice"), matcher="knn", k=3)
    ssl_vc.write(tmp_path / "alone.wav", wav, converter.sample_rate)
    assert contents(tmp_path / "out")["anna/0.wav"] == (tmp_path / "alone.wav").read_bytes()


def test_json_is_one_line_a_job_as_in_the_report(run, tmp_path, jobs):
    status, out, err = run("batch", jobs, "-o", tmp_path / "out", *MODEL, "--json")
    assert (status, unwarned(err)) == (0, "")
    printed = [json.loads(line) for line in out.splitlines()]
    reported = [json.loads(line) for line in (tmp_path / "out" / "report.jsonl").read_text().splitlines()]
    assert sorted(printed, key=str) == sorted(reported, key=str)
    assert {row["state"] for row in printed} == {"done"}


def test_resume_and_force(run, tmp_path, jobs):
    arguments = ("batch", jobs, "-o", tmp_path / "out", *MODEL)
    assert run(*arguments)[0] == 0
    status, _, err = run(*arguments)
    assert status == 1
    assert err.startswith("error: ")
    assert "exists; resume skips finished jobs, force overwrites them" in err
    (tmp_path / "out" / "anna" / "1.wav").unlink()
    assert run(*arguments, "--resume")[1].startswith("4 jobs: 1 done, 3 skipped, 0 failed; 0.6 s of sound")
    assert run(*arguments, "--force")[1].startswith("4 jobs: 4 done, 0 skipped, 0 failed; 2.0 s of sound")
    assert run(*arguments, "--resume", "--blend", "0.5")[1].startswith("4 jobs: 4 done, 0 skipped")


def test_failures_are_a_line_each_and_status_1(run, tmp_path):
    clip = speech(tmp_path / "a.wav")
    (tmp_path / "text.wav").write_text("no sound")
    lines = ["source,target,name,k", f"{clip},{clip},good,", f"{tmp_path}/text.wav,{clip},text,"]
    jobs = write(tmp_path, [*lines, f"{clip},{clip},bad,few", f",{clip},empty,", f"{clip},,nobody,"])
    status, out, err = run("batch", jobs, "-o", tmp_path / "out", *MODEL)
    assert status == 1
    assert out.startswith("5 jobs: 1 done, 0 skipped, 4 failed; ")
    errors = unwarned(err).splitlines()
    assert sorted(line.split(".wav:")[0] for line in errors[:-1]) == [
        f"error: {name}" for name in ("bad", "empty", "nobody", "text")
    ]
    assert errors[-1] == f"error: 4 of 5 jobs failed; see {tmp_path / 'out' / 'report.csv'}."
    assert sorted(contents(tmp_path / "out")) == ["good.wav"]


def test_a_terminal_shows_the_rate_and_what_remains(run, tmp_path, jobs, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    arguments = ("batch", jobs, "-o", tmp_path / "out", *MODEL)
    status, _, err = run(*arguments)
    assert status == 0
    assert "4/4 [" in err
    assert "job/s" in err or "s/job" in err
    assert run(*arguments, "--resume")[1].startswith("4 jobs: 0 done, 4 skipped, 0 failed; ")


@pytest.mark.parametrize(
    ("lines", "options", "words"),
    [
        (["source,colour", "a,b"], [], "has the columns source, colour; it needs source, and voice or target"),
        (["source,voice,colour", "a,b,c"], [], "has the column 'colour'; possible are source, voice"),
        (["source,voice,name", "a,b,x", "c,d,x"], [], "two jobs have the output x.wav"),
        (["source,voice,name", "a,b,../x"], [], "is outside the output folder"),
        (["source,voice", "a,b"], ["--resume", "--force"], "use one of them"),
        (["source,voice", "a,b"], ["--pitch", "up"], "pitch is 'up'; give match or a number of semitones"),
        (["source,voice", "a,b"], ["--k", "100000"], "Invalid value for '--k'"),
        (["source,voice", "a,b"], ["--engine", "spark"], "'spark' is not one of 'local', 'ray'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(run, tmp_path, lines, options, words):
    status, out, err = run("batch", write(tmp_path, lines), "-o", tmp_path / "out", *MODEL, *options)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert not (tmp_path / "out").exists()


def test_a_list_that_is_not_there(run, tmp_path):
    status, _, err = run("batch", tmp_path / "gone.csv", "-o", tmp_path / "out", *MODEL)
    assert status == 2
    assert "there is no file" in err


def test_a_model_that_is_not_there(run, tmp_path, jobs):
    status, out, err = run("batch", jobs, "-o", tmp_path / "out", "--model", "nobody")
    assert (status, out) == (1, "")
    assert err.startswith("error: there is no model 'nobody'")
    assert not (tmp_path / "out").exists()


def test_ray_that_is_not_installed(run, tmp_path, jobs, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    status, _, err = run("batch", jobs, "-o", tmp_path / "out", *MODEL, "--engine", "ray")
    assert status == 1
    assert err == "error: the engine ray is not installed; pip install 'ssl-vc[scale]'.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_batch_goes_on_as_if_nothing_had_happened(run, tmp_path, jobs):
    with jobs.open("a") as file:
        file.writelines(f"{tmp_path}/a.wav,{tmp_path}/anna.voice,,more{i},{i}\n" for i in range(1, 9))
    arguments = [str(part) for part in ("batch", jobs, "-o", tmp_path / "out", *MODEL)]
    command = [sys.executable, "-m", "ssl_vc", *arguments, "--json"]
    threads = str(torch.get_num_threads())  # another number changes the last bits
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        first = [process.stdout.readline() for _ in range(2)]
        second = run(*arguments, "--resume")
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert (second[0], process.returncode) == (1, -signal.SIGKILL)
    assert "another batch is running in" in second[2]
    left = contents(tmp_path / "out")
    assert (tmp_path / "out" / ".batch").exists()
    status, out, _ = run(*arguments, "--resume", "--json")
    states = {row["output"]: row["state"] for row in map(json.loads, out.splitlines())}
    assert status == 0
    assert len(states) == 12
    assert {json.loads(line)["output"] for line in first} <= {name for name in states if states[name] == "skipped"}
    assert "done" in states.values()
    assert run(*arguments[:3], tmp_path / "whole", *MODEL)[0] == 0
    whole = contents(tmp_path / "whole")
    assert contents(tmp_path / "out") == whole
    assert {name: data for name, data in left.items() if not name.startswith(".batch/")}.items() <= whole.items()


def workers_at_work():
    """Give the processes of this process's Ray that do jobs just now."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            stats[int(path.name)] = parent, (path / "cmdline").read_bytes()
    return [
        pid
        for pid, (parent, name) in stats.items()
        if name.startswith(b"ray::_Actor.do") and stats.get(parent, (0,))[0] == os.getpid()
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker to kill in /proc")
def test_ray_gives_the_same_bytes_though_a_worker_is_killed(run, tmp_path, jobs, monkeypatch):
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'ssl-vc[scale]'")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    with jobs.open("a") as file:
        file.writelines(f"{tmp_path}/b.wav,{tmp_path}/anna.voice,,more{i},{i}\n" for i in range(1, 9))
        file.write(f"{tmp_path}/gone.wav,{tmp_path}/anna.voice,,gone,\n")
    assert run("batch", jobs, "-o", tmp_path / "local", *MODEL)[0] == 1
    killed, ended = [], threading.Event()

    def kill_one():
        report = tmp_path / "ray" / "report.jsonl"
        while not (killed or ended.wait(0.01)):
            if report.exists() and report.read_text() and (workers := workers_at_work()):
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])

    thread = threading.Thread(target=kill_one)
    thread.start()
    status, out, err = run(
        *("batch", jobs, "-o", tmp_path / "ray", *MODEL, "--engine", "ray", "--workers", "2", "--json")
    )
    ended.set()
    thread.join()
    assert killed
    assert status == 1
    assert not ray.is_initialized()
    assert "error: 1 of 13 jobs failed" in err
    rows = [json.loads(line) for line in out.splitlines()]
    assert len({row["output"] for row in rows}) == len(rows) == 13
    assert [row["output"] for row in rows if row["state"] == "failed"] == ["gone.wav"]
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert len(contents(tmp_path / "ray")) == 12
    status, out, _ = run("batch", jobs, "-o", tmp_path / "ray", *MODEL, "--resume")  # what was done there counts here
    assert out.startswith("13 jobs: 0 done, 12 skipped, 1 failed")
