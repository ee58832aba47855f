"""Shared parts of the demo's tabs: uploads, messages, and stopping."""

import errno
import html
import os
import shutil
import tempfile
from io import FileIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

gr = pytest.importorskip("gradio")
from demos import uploads  # noqa: E402
from demos.studio import COMMENT, Folder, file_name, label_synthetic, write  # noqa: E402
from demos.tabs import convert  # noqa: E402
from demos.uploads import PREFIX, SAMPLES, demo_folder, sounds, uploaded  # noqa: E402
from demos.widgets import StopSignal, plain, report_errors, without_folders  # noqa: E402


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


def test_decoding_stops_at_the_limit(tmp_path, monkeypatch):
    """Also of formats whose header is not read, such as webm."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    program, sound = tmp_path / "ffmpeg", tmp_path / "long.webm"
    program.write_text(f"#!/bin/sh\nhead -c {4 * 600 * 16_000} /dev/zero && touch '{tmp_path}/all'\n")
    program.chmod(0o755)
    sound.write_bytes(b"x")
    with pytest.raises(ValueError, match="This is longer than 1 minutes; send a shorter recording"):
        sounds([sound], 1)
    assert not (tmp_path / "all").exists()


def test_the_picture_of_the_target_is_read_within_the_limit(monkeypatch):
    minutes = []
    monkeypatch.setattr(convert, "sounds", lambda paths, limit: minutes.append(limit) or [torch.zeros(9)])
    monkeypatch.setattr(convert, "figures", lambda *rows: rows)
    result = SimpleNamespace(wav=torch.zeros(9), sample_rate=16_000)
    rows = convert._pictures(torch.zeros(9), [str(SAMPLES / "emma.opus")], result)
    assert [row.name for row in rows] == ["source", "target", "result"] and minutes == [20]


def test_messages_name_no_folder():
    assert without_folders("'/tmp/a b/c d.wav' is empty; see /var/x/y.log.") == "c d.wav is empty; see y.log."
    assert without_folders("1/2 and 3 / 4 stay") == "1/2 and 3 / 4 stay"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("'/tmp/x/a.wav' is empty."), "a.wav is empty."),
        (ValueError("""<img src="x"> is 'b' & "c"."""), """&lt;img src="x"&gt; is 'b' &amp; "c"."""),
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


def test_names_are_shown_as_they_are():
    markdown = pytest.importorskip("markdown_it").MarkdownIt().enable("table").enable("strikethrough")
    assert plain("Anna, 2nd-part (new).") == "Anna, 2nd-part (new)."
    name = "![x](http://h/y) <img src=h> <http://h> `a` *b* _c_ ~~d~~ $e$ &amp; f|g \\# [h]: i\n# j"
    assert markdown.render(f"**{plain(name)}**: {plain(name)}") == (
        f"<p><strong>{html.escape(' '.join(name.split()))}</strong>: {html.escape(' '.join(name.split()))}</p>\n"
    )
    assert plain("www.h.de http://h a@h") == r"www\.h.de http\://h a\@h"  # which gradio would make links


def test_names_for_files():
    assert file_name("A & B/../c") == "A _ B_.._c"
    assert file_name("///") == "___" and file_name("..") == "voice"
    assert len(file_name("x" * 300)) == 50
    assert Path(file_name("é日本")).name == "é日本"


def test_what_users_sent_to_a_killed_demo_is_removed(tmp_path, monkeypatch):
    """By the next one; it leaves what a running demo has, and folders that are no demo's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with demo_folder() as running:
        (running / "uploads").mkdir()
        killed = shutil.copytree(running, tmp_path / f"{PREFIX}killed")  # as it is when nobody holds its lock
        (tmp_path / f"{PREFIX}notes").mkdir()
        (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / f"{PREFIX}notes")
        with demo_folder() as folder:
            assert folder.is_dir() and running.is_dir() and not killed.exists()
        assert not folder.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PREFIX}link", f"{PREFIX}notes"]


def test_the_outputs_of_a_call_are_in_the_demos_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    with Folder() as folder:
        assert folder.parent == tmp_path
    assert not folder.exists()
