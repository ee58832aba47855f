"""What a user sees: one line and the right exit status, results where they were asked for."""

import io
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import ssl_vc
from ssl_vc.cli import main


def tone(path, seconds=1.0, rate=16_000):
    soundfile.write(path, 0.3 * np.sin(np.arange(int(seconds * rate)) * 0.1), rate)
    return str(path)


def test_extract_writes_what_the_extractor_gives(run, tmp_path):
    clip = tone(tmp_path / "clip.wav")
    status, out, err = run("extract", clip, "-o", tmp_path / "frames", "--model", "untrained")
    assert (status, err) == (0, "")
    assert "49 frames of 256" in out
    frames, spec = ssl_vc.read_frames(tmp_path / "frames" / "clip.safetensors")
    extractor = ssl_vc.Extractor.from_pretrained("untrained")
    assert torch.equal(frames, extractor(clip))
    assert spec == extractor.spec


def test_json_is_one_line_a_result(run, tmp_path):
    clips = [tone(tmp_path / f"{name}.wav") for name in "ab"]
    status, out, _ = run("extract", *clips, "-o", tmp_path / "frames", "--model", "untrained", "--layer", 2, "--json")
    results = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [result["input"] for result in results] == clips
    assert {(result["frames"], result["dim"], result["layer"]) for result in results} == {(49, 256, 2)}


def test_existing_results_are_kept_without_force(run, tmp_path):
    clip = tone(tmp_path / "clip.wav")
    (tmp_path / "clip.safetensors").write_text("precious")
    arguments = ("extract", clip, "-o", tmp_path, "--model", "untrained")
    status, _, err = run(*arguments)
    assert status == 1
    assert err.startswith("error: ")
    assert "--force overwrites it" in err
    assert (tmp_path / "clip.safetensors").read_text() == "precious"
    assert run(*arguments, "--force")[0] == 0
    assert ssl_vc.read_frames(tmp_path / "clip.safetensors")[0].shape == (49, 256)


def test_one_bad_file_does_not_stop_the_others(run, tmp_path):
    (tmp_path / "bad.wav").write_text("hello")
    clips = [tone(tmp_path / "a.wav"), str(tmp_path / "bad.wav"), tone(tmp_path / "c.wav")]
    status, out, err = run("extract", *clips, "-o", tmp_path / "frames", "--model", "untrained")
    assert status == 1
    assert len(out.splitlines()) == 2
    assert [line.startswith("error: ") for line in err.splitlines()] == [True, True]
    assert "bad.wav" in err
    assert "1 of 3 files failed" in err
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["a.safetensors", "c.safetensors"]


def missing(path):
    return path / "missing.wav"


def folder(path):
    (path / "folder.wav").mkdir()
    return path / "folder.wav"


def empty(path):
    (path / "empty.wav").touch()
    return path / "empty.wav"


def text(path):
    (path / "text.wav").write_text("this is no sound")
    return path / "text.wav"


def no_samples(path):
    soundfile.write(path / "none.wav", np.zeros(0), 16_000)
    return path / "none.wav"


def truncated(path):
    tone(path / "cut.wav")
    (path / "cut.wav").write_bytes((path / "cut.wav").read_bytes()[:30])
    return path / "cut.wav"


def not_numbers(path):
    wav = np.zeros(16_000, dtype=np.float32)
    wav[100] = np.nan
    soundfile.write(path / "nan.wav", wav, 16_000, subtype="FLOAT")
    return path / "nan.wav"


def infinite(path):
    wav = np.full(16_000, 0.1, dtype=np.float32)
    wav[100] = np.inf
    soundfile.write(path / "inf.wav", wav, 16_000, subtype="FLOAT")
    return path / "inf.wav"


def silence(path):
    soundfile.write(path / "silence.wav", np.zeros(16_000), 16_000)
    return path / "silence.wav"


def too_long(path):
    soundfile.write(path / "long.wav", np.full(8_000, 50, dtype=np.int16), 1_000)
    header = bytearray((path / "long.wav").read_bytes())
    samples = 1_000 * 3_600 * 7
    header[4:8] = (36 + 2 * samples).to_bytes(4, "little")
    header[40:44] = (2 * samples).to_bytes(4, "little")
    with (path / "long.wav").open("wb") as file:
        file.write(header)
        file.truncate(44 + 2 * samples)  # 7 hours, most of it a hole in the file
    return path / "long.wav"


def too_short(path):
    tone(path / "short.wav", seconds=0.02)
    return path / "short.wav"


BAD_SOUND = [missing, folder, empty, text, no_samples, truncated, not_numbers, infinite, silence, too_long, too_short]


@pytest.mark.parametrize("make", BAD_SOUND, ids=lambda make: make.__name__)
def test_bad_sound_gives_one_line_and_status_1(run, tmp_path, make):
    path = make(tmp_path)
    status, out, err = run("extract", path, "-o", tmp_path / "frames", "--model", "untrained")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert path.name in err
    assert not (tmp_path / "frames").exists()


def test_an_unreadable_file_gives_one_line(run, tmp_path, monkeypatch):
    clip = tone(tmp_path / "clip.wav")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", clip)

    monkeypatch.setattr("pathlib.Path.open", refuse)  # root may read everything, so chmod would show nothing
    status, _, err = run("extract", clip, "-o", tmp_path / "frames", "--model", "untrained")
    assert status == 1
    assert "permission" in err.lower()
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["extract", "{clip}"], "--output"),
        (["extract", "-o", "x"], "INPUT"),
        (["extract", "{clip}", "-o", "x", "--layers", "3"], "--layers"),
        (["extract", "{clip}", "-o", "x", "--dtype", "int4"], "'int4' is not one of 'auto', 'float32', 'bfloat16'"),
        (["extract", "{clip}", "-o", "x", "--layer", "three"], "valid int"),
        (["extrakt"], "extrakt"),
    ],
)
def test_wrong_usage_gives_one_line_and_status_2(run, tmp_path, arguments, word):
    clip = tone(tmp_path / "clip.wav")
    status, out, err = run(*(argument.format(clip=clip) for argument in arguments))
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert word in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "nobody"], "there is no model 'nobody'"),
        (["--model", "untrained", "--layer", "9"], "layer is 9; this encoder has layers 0 to 6"),
        (["--model", "untrained", "--device", "fpga"], "the device 'fpga' is not known; possible are auto, cpu"),
        (["--model", "{clip}"], "clip.wav'; possible are"),
        (["--model", "."], "holds no config.json"),
    ],
)
def test_impossible_wishes_give_one_line_and_status_1(run, tmp_path, options, words):
    clip = tone(tmp_path / "clip.wav")
    options = [option.format(clip=clip) for option in options]
    status, _, err = run("extract", clip, "-o", tmp_path / "frames", *options)
    assert status == 1
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert words in err
    assert not (tmp_path / "frames").exists()


def test_inputs_of_one_name_are_refused(run, tmp_path):
    (tmp_path / "other").mkdir()
    clips = [tone(tmp_path / "clip.wav"), tone(tmp_path / "other" / "clip.wav")]
    status, _, err = run("extract", *clips, "-o", tmp_path / "frames", "--model", "untrained")
    assert status == 2
    assert "several inputs would be written to" in err


def test_an_output_that_is_a_file_is_refused(run, tmp_path):
    clip = tone(tmp_path / "clip.wav")
    status, _, err = run("extract", clip, "-o", clip, "--model", "untrained")
    assert status == 2
    assert "is a file; -o wants a folder" in err


def test_an_output_that_cannot_be_written_is_named(run, tmp_path):
    clip = tone(tmp_path / "clip.wav")
    status, _, err = run("extract", clip, "-o", clip + "/frames", "--model", "untrained")
    assert status == 1
    assert err.startswith(f"error: {clip}/frames/clip.safetensors cannot be written: ")
    assert err.count("\n") == 1


def test_several_bad_files_are_one_line_each(run, tmp_path):
    clips = [tmp_path / "a\nb.wav", tmp_path / "c.wav"]
    for clip in clips:
        clip.write_text("no sound")
    status, _, err = run("extract", *clips, "-o", tmp_path / "frames", "--model", "untrained")
    assert status == 1
    assert [line.startswith("error: ") for line in err.splitlines()] == [True] * 3
    assert "2 of 2 files failed" in err


def test_a_name_that_the_terminal_cannot_show_stops_nothing(tmp_path, monkeypatch):
    clips = [tone(tmp_path / name) for name in ("名前.wav", "z.wav")]
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    with pytest.raises(SystemExit) as stop:
        main(["extract", *clips, "-o", str(tmp_path / "frames"), "--model", "untrained"])
    assert stop.value.code == 0
    assert len(list((tmp_path / "frames").iterdir())) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text here")
@pytest.mark.parametrize("suffix", [".wav", ".m4a"])
def test_a_name_that_is_not_text_reads_back(run, tmp_path, monkeypatch, suffix):
    clip = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff" + suffix.encode()))
    tone(tmp_path / "b.wav")
    (tmp_path / "b.wav").rename(clip)
    if suffix == ".m4a":
        monkeypatch.setattr("ssl_vc.decoding.DEMUXERS", {})  # let libsndfile open it: the name is the point
    assert run("extract", clip, "-o", tmp_path / "frames", "--model", "untrained")[0] == 0
    (path,) = (tmp_path / "frames").iterdir()
    path.rename(tmp_path / "plain.safetensors")
    assert ssl_vc.read_frames(tmp_path / "plain.safetensors")[0].shape == (49, 256)


def test_interrupting_gives_130(run, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ssl_vc.Extractor, "save", interrupt)
    command = ("extract", tone(tmp_path / "clip.wav"), "-o", tmp_path, "--model", "untrained")
    assert run(*command) == (130, "", "stopped: no output is left half written.\n")
    _, _, err = run(*command[:2], tone(tmp_path / "other.wav"), *command[2:])
    assert err == "stopped: 0 of 2 files are done and kept; give the rest again.\n"


def test_warnings_are_one_line(run, tmp_path, monkeypatch):
    def warn(*_):
        warnings.warn("look\nout", UserWarning, stacklevel=1)
        return 49

    monkeypatch.setattr(ssl_vc.Extractor, "save", warn)
    warnings.simplefilter("default")
    status, _, err = run("extract", tone(tmp_path / "clip.wav"), "-o", tmp_path, "--model", "untrained")
    assert (status, err) == (0, "warning: look out\n")


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path):
    clip = tone(tmp_path / "clip.wav")
    code = (
        "import os, time; time.sleep = lambda _: None; os.environ['HF_ENDPOINT'] = 'http://127.0.0.1:9'\n"
        "os.environ.pop('HF_HUB_OFFLINE', None); os.environ.pop('HF_HUB_VERBOSITY', None)\n"
        f"from ssl_vc.cli import main; main(['extract', {clip!r}, '-o', 'x', '--model', 'no/such'])"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no/such is neither a folder nor in the cache of the hub, and the hub cannot")
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match=r"does not exist|no such|not found"):
        main(["extract", str(tmp_path / "missing.wav"), "-o", str(tmp_path), "--model", "untrained", "--debug"])


def test_bugs_are_one_line_too(run, tmp_path, monkeypatch):
    monkeypatch.setattr(ssl_vc.Extractor, "save", lambda *_: {}["key"])
    status, _, err = run("extract", tone(tmp_path / "clip.wav"), "-o", tmp_path, "--model", "untrained")
    assert status == 1
    assert err == "error: KeyError: 'key' (a bug; --debug shows the traceback)\n"


def test_version_and_help(run):
    assert run("--version") == (0, ssl_vc.__version__ + "\n", "")
    for arguments in ((), ("--help",)):
        status, out, _ = run(*arguments)
        assert status == 0
        assert "extract" in out


def test_help_is_quick():
    """1.5 s, warm, as a fresh process; the best of three, since other work on the machine only ever adds."""

    def once():
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "ssl_vc", "--help"], capture_output=True, text=True, check=True)
        assert "extract" in done.stdout
        return time.perf_counter() - start

    assert min(once() for _ in range(3)) < 1.5
