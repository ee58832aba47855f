"""Voices of sessions: each has its own, and a budget of memory holds."""

from types import SimpleNamespace

import pytest

pytest.importorskip("gradio")
import torch

from demos import studio as studios
from demos import uploads
from demos.sessions import MAX_VOICES, Session, Sessions, size
from demos.studio import Studio
from demos.uploads import SAMPLES


def voice(name, kilobytes):
    return SimpleNamespace(name=name, frames=torch.zeros(kilobytes, 256, dtype=torch.half), synthesis=None)


@pytest.fixture
def studio(monkeypatch, tmp_path):
    """A studio that enrols without a model, and takes files of a folder as uploads."""
    studio, made = Studio("tiny"), []

    def enroll(files, name):
        made.append(name)
        return voice(f"{name} {len(made)}", 1)

    monkeypatch.setitem(studio.__dict__, "converter", SimpleNamespace(enroll=enroll))
    monkeypatch.setattr(studios, "sounds", lambda *_: None)
    monkeypatch.setattr(uploads, "get_upload_folder", lambda: str(tmp_path))
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
    studio.sessions.drop_idle(minutes=60)
    assert len(session.voices) == 1
    studio.sessions.drop_idle(minutes=0)
    assert session.voices == {}


def test_a_voice_counts_with_its_index():
    assert size(voice("a", 1)) == 1024
    double = voice("a", 1)
    double.synthesis = torch.zeros(1, 512, dtype=torch.half)
    assert size(double) == 3072


def test_a_session_keeps_its_last_used_voices():
    sessions, session = Sessions(session_bytes=10 << 10, total_bytes=1 << 20), Session()
    for name in "abc":
        sessions.add(session, (name,), voice(name, 3))
    assert list(session.voices) == [("a",), ("b",), ("c",)]
    assert sessions.get(session, ("a",)).name == "a"
    sessions.add(session, ("d",), voice("d", 3))
    assert list(session.voices) == [("c",), ("a",), ("d",)] and list(session.dropped) == [("b",)]
    sessions.add(session, ("e",), voice("e", 6))
    assert list(session.voices) == [("d",), ("e",)]
    sessions.add(session, ("f",), voice("f", 50))  # the one in use stays
    assert list(session.voices) == [("f",)] and sessions.get(session, ("e",)) is None
    assert len(session.dropped) <= 2 * MAX_VOICES


def test_forty_sessions_stay_within_the_budget_of_all():
    sessions, users = Sessions(session_bytes=100 << 10, total_bytes=100 << 10), [Session() for _ in range(40)]
    for number, user in enumerate(users):
        user.used = number
        sessions.add(user, (str(number),), voice("x", 9))
        assert sum(size(each) for user in users for each in user.voices.values()) <= 100 << 10
    assert [bool(user.voices) for user in users] == [False] * 29 + [True] * 11


def test_a_dropped_voice_is_enrolled_again_or_asked_for(studio, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(studios.gr, "Info", lambda message, **_: said.append(message))
    path, session = tmp_path / "anna.wav", Session()
    path.write_bytes(b"x")
    first = studio.voice(session, [str(path)])
    studio.sessions.drop_idle(minutes=0)
    again = studio.voice(session, [str(path)])
    assert first is not again and studio.made == ["anna", "anna"]
    assert said == ["This voice was dropped to make room for others; it is enrolled again."]
    path.unlink()
    assert studio.voice(session, [str(path)]) is again
    studio.sessions.drop_idle(minutes=0)
    with pytest.raises(ValueError, match=r"dropped to make room for others, .* upload them to enrol it again"):
        studio.voice(session, [str(path)])
    with pytest.raises(ValueError, match=r"'anna\.wav' was deleted, because of its age or to make room; upload it"):
        studio.voice(Session(), [str(path)])
