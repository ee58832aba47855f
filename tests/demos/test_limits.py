"""Limits of requests: their size and duration, what is kept of uploads, failed logins, names that do not exist."""

import asyncio
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("gradio")
from demos import limits
from demos.limits import Logins, RequestLimits, RequestRefusedError, Uploads


def fill(folder, name, size, age=0):
    path = folder / name / f"{name}.wav"
    path.parent.mkdir()
    path.write_bytes(bytes(size))
    os.utime(path, (path.stat().st_mtime - age,) * 2)
    return path


def sent(uploads, address, *paths):
    size = sum(path.stat().st_size for path in paths)
    uploads.begin(address, size)
    uploads.end(address, size, list(map(str, paths)))


def test_the_oldest_uploads_of_an_address_go_first(tmp_path):
    own = fill(tmp_path, "example", 500, age=90)
    uploads = Uploads(tmp_path, address_bytes=100, total_bytes=250)
    first, second, others = (fill(tmp_path, name, 60, age) for name, age in (("a", 30), ("b", 20), ("c", 40)))
    sent(uploads, "me", first)
    sent(uploads, "you", others)
    assert first.exists()
    sent(uploads, "me", second)
    assert not first.exists() and second.exists() and others.exists() and own.exists()


def test_results_count_in_all(tmp_path):
    uploads = Uploads(tmp_path, address_bytes=100, total_bytes=150)
    result, mine = fill(tmp_path, "result", 80, age=30), fill(tmp_path, "mine", 60, age=20)
    sent(uploads, "me", mine)
    late = fill(tmp_path, "late", 40)
    uploads.make_room()
    assert not result.exists() and mine.exists() and late.exists()


def test_uploads_that_cannot_be_kept_are_refused(tmp_path):
    uploads = Uploads(tmp_path, address_bytes=100 << 20, total_bytes=150 << 20)
    with pytest.raises(RequestRefusedError, match=r"must not be larger than 100 MB\.") as caught:
        uploads.begin("me", 101 << 20)
    assert caught.value.status == 413
    uploads.begin("me", 60 << 20)
    for address, size in (("me", 50), ("you", 95)):
        with pytest.raises(RequestRefusedError, match="Too many uploads at a time"):
            uploads.begin(address, size << 20)
    uploads.end("me", 60 << 20, [])
    uploads.begin("me", 50 << 20)


def test_old_files_go_with_their_folders(tmp_path):
    own = fill(tmp_path, "example", 5, age=90)
    uploads = Uploads(tmp_path)
    old, new = fill(tmp_path, "old", 5, age=90), fill(tmp_path, "new", 5)
    (tmp_path / "tmpbroken").write_bytes(b"half")
    os.utime(tmp_path / "tmpbroken", (0, 0))
    uploads.delete_older(60)
    assert (old.exists(), new.exists(), own.exists(), (tmp_path / "tmpbroken").exists()) == (False, True, True, False)
    os.utime(old.parent, (0, 0))
    uploads.delete_older(60)
    assert not old.parent.exists() and new.exists()


def test_folders_may_vanish_meanwhile(tmp_path):
    uploads, done = Uploads(tmp_path), threading.Event()

    def come_and_go():
        while not done.is_set():
            folders = [tmp_path / str(number) for number in range(40)]
            for folder in folders:
                folder.mkdir()
            for folder in folders:
                folder.rmdir()

    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(come_and_go)
        try:
            for _ in range(50):
                uploads.make_room()
                uploads.delete_older(60)
        finally:
            done.set()
        coming.result()


def test_failed_logins_are_slowed_down(monkeypatch):
    logins = Logins()
    for _ in range(20):
        logins.succeed("me", logins.begin("me"))
    for _ in range(limits.MAX_FAILURES):
        logins.begin("me")
    with pytest.raises(RequestRefusedError, match=r"Too many failed logins; wait 60 seconds\."):
        logins.begin("me")
    logins.begin("you")
    monkeypatch.setattr(limits, "FAILURE_SECONDS", 0.0)
    logins.begin("me")


def answer(uploads, path, *parts, pause=0.0, headers=(), method="POST", status=200, reply=b"[]"):
    """Returns the status of a request that comes in parts, what the app received, and what was answered."""
    received, answers, left = [], [], list(parts)

    async def app(_scope, receive, send):
        more = True
        while more:
            message = await receive()
            received.append(message["body"])
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": reply})

    async def receive():
        await asyncio.sleep(pause)
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message):
        answers.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers), "client": ("1.2.3.4", 5)}
    with ThreadPoolExecutor(1) as thread:  # of its own: a browser's test leaves this one with a running loop
        thread.submit(asyncio.run, RequestLimits(app, uploads, Logins())(scope, receive, send)).result()
    return answers[0]["status"], b"".join(received), answers[-1]["body"]


def test_requests_are_limited(tmp_path, monkeypatch):
    uploads, call, login = Uploads(tmp_path), "/gradio_api/call/convert", "/login"
    assert answer(uploads, call, b"ab", b"cd") == (200, b"abcd", b"[]")
    half = bytes(limits.MAX_REQUEST_BYTES // 2)
    for path in (call, login, "/gradio_api/queue/join", "/gradio_api/cancel"):
        assert answer(uploads, path, half, half)[:2] == (200, half + half)
        status, received, reply = answer(uploads, path, half, half, b"x", b"y")
        assert (status, received) == (413, b"") and "larger than 256 kB" in json.loads(reply)["detail"]
    monkeypatch.setattr(limits, "PATIENCE", 0.05)
    status, received, reply = answer(uploads, call, b"a", b"b", pause=0.04)
    assert (status, received) == (408, b"") and json.loads(reply)["detail"] == "The request came too slowly."


def test_uploads_are_slow_in_all_but_not_in_part(tmp_path, monkeypatch):
    uploads, path = Uploads(tmp_path, address_bytes=1 << 20), "/gradio_api/upload"
    assert answer(uploads, path, b"abc")[0] == 411
    length = [(b"content-length", b"3")]
    monkeypatch.setattr(limits, "PATIENCE", 0.1)
    assert answer(uploads, path, b"a", b"b", b"c", pause=0.05, headers=length) == (200, b"abc", b"[]")
    assert answer(uploads, path, b"a", b"b", b"c", pause=0.2, headers=length)[0] == 408
    assert answer(uploads, path, b"abc", headers=[(b"content-length", b"%d" % (2 << 20))])[0] == 413
    uploads.begin("1.2.3.4", 1 << 20)  # what was refused or done is not on its way any more


def test_uploads_of_an_address_are_noted(tmp_path):
    uploads = Uploads(tmp_path, address_bytes=100)
    for number in range(5):
        path = fill(tmp_path, str(number), 40, age=9 - number)
        reply = json.dumps([str(path)]).encode()
        answer(uploads, "/gradio_api/upload", b"x", headers=[(b"content-length", b"40")], reply=reply)
    assert sorted(path.stem for path in tmp_path.rglob("*.wav")) == ["3", "4"]
