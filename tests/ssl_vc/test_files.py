import errno
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest
import torch

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.labels.kmeans import KMeans
from ssl_vc.cli import _set_up_process
from ssl_vc.features.extractor import FrameSpec
from ssl_vc.features.frame_files import write_frames
from ssl_vc.files import replacing
from ssl_vc.hub.registry import BUNDLED
from ssl_vc.tts.g2p import G2PModel
from ssl_vc.units.codebook import Codebook
from ssl_vc.voice.voice import Voice
from vocoder.vocos import Vocos, VocosConfig

SMALL = EncoderConfig.tiny(frontend="conv", dim=16, depth=1, heads=2, ffn_dim=16, conv_dim=8)


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


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_terminated_command_leaves_nothing_half_written(tmp_path, name):
    number = getattr(signal, name)
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, lambda *_: None)
        _set_up_process(debug=False)
        with pytest.raises(SystemExit) as stop, replacing(tmp_path / "a.wav") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), number)
        assert stop.value.code == 128 + number
        assert names(tmp_path) == []
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_nohup_is_respected():
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        _set_up_process(debug=False)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


UNFINISHED = """
import sys, time
from ssl_vc.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer():
    """Start processes that are in the middle of writing a file."""
    started = []

    def start(path):
        started.append(subprocess.Popen([sys.executable, "-c", UNFINISHED, str(path)], stdout=subprocess.PIPE))
        started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_what_a_killed_process_left_is_removed(tmp_path, writer):
    """And nothing else: neither what a process is writing, nor files of others."""
    killed = writer(tmp_path / "a.wav")
    killed.kill()
    killed.wait()
    assert len(names(tmp_path)) == 1
    others = [".0123456789abcdef.part.d", ".backup.part.wav", "0123456789abcdef.part.wav"]
    (tmp_path / others[0]).mkdir()
    for name in others[1:]:
        (tmp_path / name).touch()
    living = writer(tmp_path / "b.wav")
    with replacing(tmp_path / "c.wav") as ours:
        ours.write_text("new")
        kept = {*names(tmp_path)} - {*others, ours.name}
        assert len(kept) == 1
    assert living.poll() is None
    assert {*names(tmp_path)} == {*others, *kept, "c.wav"}


def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    left = tmp_path / ".0123456789abcdef.part.wav"
    left.touch()
    monkeypatch.setattr("fcntl.flock", unsupported)
    with replacing(tmp_path / "a.wav") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == [left.name, "a.wav"]  # which may be in use


WRITERS = {
    "voice": lambda folder: Voice(torch.zeros(3, 2).half(), FrameSpec("fake", 4, False, 2)).save(folder / "a.voice"),
    "frames": lambda folder: write_frames(folder / "a.safetensors", torch.zeros(3, 2), {"kind": "ssl", "dim": 2}),
    "kmeans": lambda folder: KMeans(torch.zeros(3, 2)).save(folder / "kmeans.safetensors"),
    "codebook": lambda folder: Codebook.load(BUNDLED / "tiny/units/book.safetensors").save(folder / "book.safetensors"),
    "g2p": lambda folder: G2PModel(8, 1).save(folder / "letters.safetensors"),
    "encoder": lambda folder: SpeechEncoder(SMALL).save_pretrained(folder),
    "transformers": lambda folder: SpeechEncoder(SMALL).save_transformers(folder),
    "vocoder": lambda folder: Vocos(VocosConfig(dim=8, width=8, ffn_dim=8, depth=1)).save_pretrained(folder),
}


@pytest.mark.parametrize("what", WRITERS)
def test_files_have_the_mode_that_the_umask_sets(what, tmp_path):
    before = os.umask(0o027)
    try:
        WRITERS[what](tmp_path)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}
