"""Messages quote names and files of strangers, point to the right help, and show progress anywhere."""

import sys

import pytest

from ssl_vc.cli import messages
from ssl_vc.cli.messages import pace, track


def test_a_name_from_a_stranger_commands_no_terminal(run, tmp_path):
    hostile = tmp_path / "\x1b[2J\x1b]0;owned\x07.wav"
    hostile.write_bytes(b"no sound")
    status, _, error = run("extract", hostile, "-o", tmp_path / "frames", "--model", "untrained")
    assert status == 1 and error.rstrip("\n").isprintable() and "\\x1b[2J" in error


def test_a_long_message_is_cut(run, tmp_path):
    jobs = tmp_path / "jobs.csv"
    jobs.write_text("source," + "x" * 100_000)
    status, _, error = run("batch", jobs, "-o", tmp_path / "out")
    assert status == 2 and len(error) < 3000 and error.startswith(f"error: Invalid value: {jobs} has the columns")


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("convert", "--frob"), "ssl-vc convert"),
        (("convert", "a.wav", "--target", "b.wav", "--pitch", "up"), "ssl-vc convert"),
        (("voice", "build", "--frob"), "ssl-vc voice build"),
        (("voice", "frob"), "ssl-vc voice"),
        (("--frob",), "ssl-vc"),
    ],
)
def test_wrong_usage_points_to_the_help_of_its_command(run, words, command):
    status, _, err = run(*words)
    assert status == 2 and err.endswith(f". `{command} --help` lists what is possible.\n")


def test_h_is_help(run):
    assert run("voice", "build", "-h")[:2] == run("voice", "build", "--help")[:2]
    assert "Usage: ssl-vc voice build" in run("voice", "build", "-h")[1]


def test_nobody_asks_whether_that_is_faster_or_slower():
    assert pace(10, 2.5) == "10.0 s of sound in 2.5 s (4.0 times faster than real time)"
    assert pace(1, 2.5) == "1.0 s of sound in 2.5 s (2.5 times slower than real time)"


def test_without_a_terminal_progress_is_logged(monkeypatch, capsys):
    monkeypatch.setattr(messages, "LOG_EVERY", 0.0)
    assert list(track([1, 2], "clip", label="frames")) == [1, 2]
    assert capsys.readouterr().err == "info: frames: 1 of 2 clips\ninfo: frames: 2 of 2 clips\n"


def test_a_terminal_shows_a_bar_instead(monkeypatch, capsys):
    monkeypatch.setattr(messages, "LOG_EVERY", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(track([1, 2], "clip")) == [1, 2]
    err = capsys.readouterr().err
    assert "2/2 [" in err and "info" not in err
