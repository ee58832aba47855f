"""Shared parts of the demo's tabs: a session's voices, uploads, messages, and stopping."""

import errno
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
import soundfile

gr = pytest.importorskip("gradio")
from demos import uploads  # noqa: E402
from demos.studio import COMMENT, Session, Studio, file_name, label_synthetic, write  # noqa: E402
from demos.uploads import SAMPLES, sounds, uploaded  # noqa: E402
from demos.widgets import StopSignal, report_errors, without_folders  # noqa: E402


@pytest.fixture
def studio(monkeypatch):
    """A studio that enrolls without a model."""
    studio = Studio("tiny")
    made = []

    class Converter:
        def enroll(self, files, name):
            made.append(name)
            return f"voice of {name} {len(made)}"

    monkeypatch.setitem(studio.__dict__, "converter", Converter())
    studio.made = made
    return studio


def test_sessions_have_voices_of_their_own(studio):
    mine, yours = Session(), Session()
    target, source = str(SAMPLES / "emma.opus"), str(SAMPLES / "source.flac")
    assert studio.voice(mine, None) is None
    first = studio.voice(mine, [target])
    assert studio.voice(mine, [target]) is first and studio.made == ["emma"]
    assert yours.voices == {} and studio.voice(yours, None) is None
    assert studio.voice(yours, [source]) != first
    assert set(mine.voices) == {(target,)} and set(yours.voices) == {(source,)}


def test_idle_voices_are_dropped(studio):
    session = Session()
    studio.voice(session, [str(SAMPLES / "emma.opus")])
    studio.drop_idle(minutes=60)
    assert len(session.voices) == 1
    studio.drop_idle(minutes=0)
    assert session.voices == {}


def test_sounds_are_labelled_or_stay_as_they_were(tmp_path, monkeypatch):
    path, sound = tmp_path / "a.wav", np.sin(np.arange(9_000) / 9) / 2
    assert write(path, sound, 16_000) == str(path)
    read, before = soundfile.SoundFile(path), path.read_bytes()
    assert (read.comment, len(read.read())) == (COMMENT, 9_000)
    assert list(tmp_path.iterdir()) == [path]

    class Full(FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ssl_vc.files.FileIO", Full)
    with pytest.raises(OSError, match="No space left"):
        label_synthetic(path)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])


def test_only_uploads_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "get_upload_folder", lambda: str(tmp_path / "sent"))
    (tmp_path / "sent").mkdir()
    for name in ("sent/a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"x")
    assert uploaded(str(tmp_path / "sent" / "a.wav"), "a sound") == [tmp_path / "sent" / "a.wav"]
    assert uploaded([str(SAMPLES / "source.flac")], "a sound") == [SAMPLES / "source.flac"]
    (tmp_path / "sent" / "link.wav").symlink_to(tmp_path / "b.wav")
    for outside in ("b.wav", "sent/../b.wav", "sent/link.wav"):
        with pytest.raises(ValueError, match="This file was not uploaded here"):
            uploaded(str(tmp_path / outside), "a sound")
    with pytest.raises(ValueError, match=r"Add a sound first\."):
        uploaded(None, "a sound")
    with pytest.raises(ValueError, match="You sent 51 files; the limit is 50"):
        uploaded([str(SAMPLES / "source.flac")] * 51, "a sound")
    monkeypatch.setattr(uploads, "MAX_BYTES", 0)
    with pytest.raises(ValueError, match="This file is larger than 0 MB"):
        uploaded(str(tmp_path / "sent" / "a.wav"), "a sound")


def test_lengths_add_up(tmp_path):
    for name, seconds in (("a", 20), ("b", 50)):
        soundfile.write(tmp_path / f"{name}.flac", 0.1 * np.sin(np.arange(seconds * 16_000)), 16_000)
    assert [len(wav) for wav in sounds([tmp_path / "a.flac", tmp_path / "a.flac"], 1)] == [20 * 16_000] * 2
    with pytest.raises(ValueError, match="This is longer than 1 minutes"):
        sounds([tmp_path / "a.flac", tmp_path / "b.flac"], 1)


def test_messages_name_no_folder():
    assert without_folders("'/tmp/a b/c d.wav' is empty; see /var/x/y.log.") == "c d.wav is empty; see y.log."
    assert without_folders("1/2 and 3 / 4 stay") == "1/2 and 3 / 4 stay"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("'/tmp/x/a.wav' is empty."), "a.wav is empty."),
        (KeyError("secret"), "Unexpected error; the server's log has the details."),
        (gr.Error("as it is"), "as it is"),
    ],
)
def test_errors_become_messages(error, message):
    @report_errors
    def work():
        yield 1
        raise error

    steps = work()
    assert next(steps) == 1
    with pytest.raises(gr.Error) as caught:
        next(steps)
    assert caught.value.message == message and "secret" not in str(caught.value)


def test_stopped_work_ends_at_its_next_step():
    done = []

    @report_errors
    def work(signal, count):
        for number in range(count):
            done.append(number)
            yield number, "working"

    signal, other = StopSignal(), StopSignal()
    steps = work(signal, 9)
    assert next(steps) == (0, "working") and signal.running
    signal.requested = True
    assert next(steps)[-1] == "stopped" and list(steps) == []
    assert done == [0, 1] and not signal.running
    assert [step[1] for step in work(other, 2)] == ["working", "working"]  # another's signal is its own


def test_names_for_files():
    assert file_name("A & B/../c") == "A _ B_.._c"
    assert file_name("///") == "___" and file_name("..") == "voice"
    assert len(file_name("x" * 300)) == 50
    assert Path(file_name("é日本")).name == "é日本"
