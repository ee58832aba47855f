"""Two commands never work in one folder."""

from pathlib import Path

import pytest

from ssl_vc import write

fcntl = pytest.importorskip("fcntl")
CONFIGS = Path(__file__).parents[3] / "configs"
COMMANDS = {
    "pretrain": (CONFIGS / "pretrain" / "debug.yaml", "clips=CLIPS"),
    "train-vocoder": (CONFIGS / "vocoder" / "mel-vocos-small.yaml", "clips=CLIPS"),
    "train-units": (CONFIGS / "units" / "tiny.yaml", "clips=CLIPS"),
    "train-tts": (CONFIGS / "tts" / "tiny.yaml", "clips=CLIPS"),
    "label": ("CLIPS",),
    "prematch": ("CLIPS",),
    "make-parallel": ("nobody/nothing", "CLIPS/texts.txt", "--offline"),
}


@pytest.fixture
def start(run, speech, tmp_path, monkeypatch):
    """Start a command on a few clips; gives its status and last message."""
    monkeypatch.setattr("ssl_vc.parallel.g2p.load_g2p", lambda name: None)
    (tmp_path / "clips").mkdir()
    for number in range(2):
        write(tmp_path / "clips" / f"{number}.wav", speech(1.0, text=number), 16_000)
    (tmp_path / "clips" / "texts.txt").write_text("A word.")

    def call(command, output):
        words = [str(word).replace("CLIPS", str(tmp_path / "clips")) for word in COMMANDS[command]]
        status, _, error = run(command, *words, "-o", output)
        return status, (error.splitlines() or [""])[-1]

    return call


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_in_use_is_refused(start, tmp_path, command):
    output = tmp_path / "out"
    output.mkdir()
    lock = tmp_path / ".out.lock" if command == "label" else output / ".lock"
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = start(command, output)
        (tmp_path / "link").symlink_to(output)
        assert found == (1, f"error: another process is working in {output}; wait for it, or use another folder.")
        assert "another process is working in" in start(command, tmp_path / "link")[1]
    assert list(output.iterdir()) == ([] if command == "label" else [lock])


def test_a_lock_leaves_nothing(start, tmp_path):
    assert start("label", tmp_path / "labels")[0] == 1  # two clips for 100 clusters
    assert start("make-parallel", tmp_path / "corpus")[0] == 1  # there is no such model
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


@pytest.mark.parametrize("name", ["RANK", "OMPI_COMM_WORLD_RANK"])
def test_the_main_process_holds_the_lock_for_all(tmp_path, monkeypatch, name):
    from ssl_vc.cli.settings import working_in

    with working_in(tmp_path):
        monkeypatch.setenv(name, "1")
        with working_in(tmp_path):
            assert (tmp_path / ".lock").exists()
        assert (tmp_path / ".lock").exists()
        monkeypatch.setenv(name, "0")
        with pytest.raises(ValueError, match="another process is working in"), working_in(tmp_path):
            pass
    assert not list(tmp_path.iterdir())
