"""`ssl-vc convert FOLDER`: mirrored names, one summary, warnings counted, and what Ctrl-C leaves."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import ssl_vc
from ssl_vc.batch.worker import Worker

MODEL = ("--model", "untrained", "--vocoder", "griffin-lim", "--device", "cpu")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder with a folder in it, and a target."""
    place = tmp_path_factory.mktemp("recordings")
    (place / "in" / "sub").mkdir(parents=True)
    at = np.arange(6400) / 16_000
    for number, name in enumerate(("in/a.flac", "in/sub/b.wav", "in/sub/.hidden.wav", "target.wav")):
        phase = 2 * np.pi * np.cumsum(120 + 20 * number + 30 * np.sin(5 * at)) / 16_000
        soundfile.write(place / name, 0.1 * sum(np.sin(n * phase) / n for n in range(1, 12)), 16_000)
    (place / "in" / "notes.txt").write_text("no sound")
    return place


@pytest.fixture
def here(recordings, monkeypatch):
    monkeypatch.chdir(recordings)
    yield recordings
    for name in ("out", "in/out", "converted"):
        shutil.rmtree(recordings / name, ignore_errors=True)


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.wav"))


def test_names_are_mirrored_and_a_second_run_resumes(here, run):
    command = ("convert", "in", "--target", "target.wav", "-o", "out", *MODEL)
    status, out, err = run(*command)
    assert status == 0 and out.count("\n") == 1
    assert out.startswith("2 files: 2 done, 0 skipped, 0 failed; 0.8 s of sound in ")
    assert written(here / "out") == ["a.wav", "sub/b.wav"]
    status, _, err = run(*command)
    assert status == 1 and "resume skips finished jobs" in err
    (here / "out" / "a.wav").unlink()
    assert run(*command, "--resume")[1].startswith("2 files: 1 done, 1 skipped, 0 failed; 0.4 s of sound in ")
    assert run(*command, "--resume")[1] == f"2 files: 0 done, 2 skipped, 0 failed; {Path('out/report.csv')}\n"


def test_each_kind_of_warning_is_shown_with_its_file_and_counted(here, run):
    status, out, err = run("convert", "in", "--target", "target.wav", "-o", "out", *MODEL)
    shown = [line for line in err.splitlines() if "of speech" in line]
    assert status == 0 and len(shown) == 1
    assert shown[0].startswith(("warning: a.wav: ", "warning: sub/b.wav: "))
    assert "; warnings: 2 x " in out


def test_the_output_may_lie_in_the_folder(here, run):
    command = ("convert", "in", "--target", "target.wav", "-o", "in/out", *MODEL, "--force")
    assert [run(*command)[0] for _ in range(2)] == [0, 0]
    assert written(here / "in" / "out") == ["a.wav", "sub/b.wav"]


def test_without_an_output(here, run):
    assert run("convert", "in", "--target", "target.wav", *MODEL)[0] == 0
    assert written(here / "converted") == ["a.wav", "sub/b.wav"]


def test_what_is_wrong_is_said_before_anything_is_computed(here, run, tmp_path):
    (tmp_path / "empty").mkdir()
    twin = tmp_path / "twins"
    shutil.copytree(here / "in", twin)
    shutil.copy(here / "target.wav", twin / "a.wav")
    for source, problem in ((tmp_path / "empty", "contains no audio files"), (twin, "would both become a.wav")):
        status, out, err = run("convert", source, "--target", "target.wav", "-o", "out", *MODEL)
        assert status and not out and err.count("\n") == 1 and problem in err
        assert not (here / "out").exists()


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(here, run, monkeypatch):
    work = Worker.__call__

    def interrupted(worker, jobs):
        yield from work(worker, jobs)
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "__call__", interrupted)
    command = ("convert", "in", "--target", "target.wav", "-o", "out", *MODEL)
    status, out, err = run(*command)
    last = "stopped: 1 of 2 files are done and kept in out; the same command with --resume goes on."
    assert (status, out, err.splitlines()[-1]) == (130, "", last)
    monkeypatch.undo()
    os.chdir(here)
    assert run(*command, "--resume")[1].startswith("2 files: 1 done, 1 skipped, 0 failed; ")


def test_a_process_gives_the_same_bytes(here, run):
    command = ("convert", "in/sub", "--target", "target.wav", "-o", "out", "--json", "--threads", "1", *MODEL)
    assert run(*command)[0] == 0
    alone = (here / "out" / "b.wav").read_bytes()
    shutil.rmtree(here / "out")
    status, out, _ = run(*command, "--workers", "2")
    assert (status, json.loads(out)["state"]) == (0, "done")
    assert (here / "out" / "b.wav").read_bytes() == alone


def test_speak_and_convert_take_the_same_outputs(here, run):
    """A file, or a folder, which is created; another suffix is refused."""
    speak = ("speak", "Hello.", "-o")
    assert run(*speak, "out/x.xyz")[2].startswith(
        "error: Invalid value: out/x.xyz is not an audio file name; end it in "
    )
    status, out, _ = run(*speak, "out")
    assert status == 0 and out.startswith(f"{Path('out/speech.wav')}: ")
    assert len(ssl_vc.read("out/speech.wav")) > 1000
