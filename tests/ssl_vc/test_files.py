import os
import signal
import threading

import pytest

from ssl_vc.cli import _set_up_process
from ssl_vc.files import replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_whole_or_not_there(tmp_path):
    path = tmp_path / "a.wav"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".wav"
        assert not path.exists()
    assert (names(tmp_path), path.read_text()) == (["a.wav"], "new")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (names(tmp_path), path.read_text()) == (["a.wav"], "new")


def test_long_names(tmp_path):
    path = tmp_path / ("a" * 250 + ".wav")
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path, failures = tmp_path / "a.txt", []

    def write(text):
        try:
            for _ in range(50):
                with replacing(path) as temporary:
                    temporary.write_text(text)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(letter * 1000,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(set(path.read_text())) == 1
    assert names(tmp_path) == ["a.txt"]


def test_a_terminated_command_leaves_nothing_half_written(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    try:
        _set_up_process(debug=False)
        with pytest.raises(SystemExit) as stop, replacing(tmp_path / "a.wav") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.value.code == 143
        assert names(tmp_path) == []
    finally:
        signal.signal(signal.SIGTERM, before)
