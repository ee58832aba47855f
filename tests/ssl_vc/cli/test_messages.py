"""Messages quote names and files of strangers."""


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
