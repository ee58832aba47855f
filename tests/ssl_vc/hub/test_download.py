"""Fetching from a server on this very machine that breaks off, lies, and changes its mind."""

import hashlib
import http.server
import io
import logging
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from urllib.request import Request

import pytest

from ssl_vc.hub import download, transfer
from ssl_vc.hub.download import Asset, cache_folder, fetch, state

CONTENT = random.Random(0).randbytes(400_000)
OTHER = random.Random(1).randbytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TRIES = 1 + len(transfer.PAUSES)


class Site(http.server.ThreadingHTTPServer):
    """A web server with one file, `content`, and a list of faults, one for each request to come.

    What it was asked is in `requests`, as (Range, If-Range), and how many bytes it gave in `given`.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/file.bin"
        self.content, self.etag, self.modified = CONTENT, '"one"', None
        self.faults, self.requests, self.given = [], [], 0
        self.release, self.released = threading.Event(), []

    def handle_error(self, request, client_address):
        """The client left; that is its right."""


class Answer(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        site = self.server
        site.requests.append((self.headers["Range"], self.headers["If-Range"]))
        fault = site.faults.pop(0) if site.faults else ""
        if fault.isdecimal():
            return self.send_error(int(fault))
        if fault.startswith("to "):
            self.send_response(302)
            self.send_header("Location", fault.removeprefix("to "))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = self.head(fault)
        if fault in ("breaks off", "hangs", "resets"):
            body = body[: len(body) // 2]
        elif fault == "gives nothing":
            body = b""
        for start in range(0, len(body), 50_000):
            site.given += len(body[start : start + 50_000])
            self.wfile.write(body[start : start + 50_000])
            if fault == "is slow":
                time.sleep(0.01)
        if fault == "hangs":
            site.released.append(site.release.wait(20))
        if fault == "resets":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return None

    def head(self, fault):
        """Send the headers and give the body that goes with them."""
        site, body, start = self.server, self.server.content, 0
        unchanged = self.headers["If-Range"] in (site.etag, site.modified) or fault == "ignores If-Range"
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if wanted and unchanged and fault != "ignores Range":
            start = int(wanted[1])
            if start >= len(body):
                self.send_error(416)
                return b""
            self.send_response(206)
            stated = 0 if fault == "goes on elsewhere" else start
            self.send_header("Content-Range", f"bytes {stated}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        for name, value in (("ETag", site.etag), ("Last-Modified", site.modified)):
            if value:
                self.send_header(name, value)
        length = len(body) - start + {"announces too much": 100, "announces too little": -100}.get(fault, 0)
        if fault != "announces nothing":
            self.send_header("Content-Length", str(length))
        self.end_headers()
        return body[start:]


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSES", (0.0,) * (TRIES - 1))
    monkeypatch.setenv("no_proxy", "*")
    for name in ("SSL_VC_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.release.set()
        site.shutdown()
        thread.join()


@pytest.fixture
def asset(site):
    return Asset("file.bin", site.url, model="a-model")


def get(asset, folder, **options):
    return fetch(asset, folder, **options).read_bytes()


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_file_is_fetched_once_and_kept(site, asset, tmp_path):
    folder = tmp_path / "new" / "cache"
    assert get(asset, folder) == get(asset, folder) == CONTENT
    assert site.requests == [(None, None)]
    assert names(folder) == {"file.bin", "file.bin.sha256", "file.bin.verified", "file.bin.lock"}


FAULTS = (
    *("", "breaks off", "resets", "gives nothing", "500", "429", "416", "ignores Range", "ignores If-Range"),
    *("announces too much", "goes on elsewhere", "is slow"),
)


@pytest.mark.parametrize("seed", range(12))
def test_the_right_file_or_none(site, asset, tmp_path, seed):
    """Whatever goes wrong in whatever order, and though the file changes in the middle: one version of it, whole."""
    chance = random.Random(seed)
    for _ in range(4):
        site.faults = chance.choices(FAULTS, k=chance.randint(0, 8))
        if chance.random() < 0.3:
            site.content, site.etag = chance.choice([(CONTENT, '"one"'), (OTHER, '"two"')])
        try:
            content = get(asset, tmp_path)
        except (OSError, ValueError):
            assert not (tmp_path / "file.bin").exists()
        else:
            assert content in (CONTENT, OTHER)
            break
    site.faults, site.content, site.etag = [], content if (tmp_path / "file.bin").exists() else CONTENT, '"one"'
    assert get(asset, tmp_path) == site.content


def test_progress_is_told(site, asset, tmp_path):
    heard = []
    site.faults = ["breaks off"]
    fetch(asset, tmp_path, progress=lambda done, total: heard.append((done, total)))
    assert heard == sorted(heard)
    assert heard[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("fault", ["breaks off", "resets"])
def test_what_broke_off_is_continued(site, asset, tmp_path, fault):
    site.faults = [fault]
    assert get(asset, tmp_path) == CONTENT
    assert len(site.requests) == 2
    if fault == "breaks off":  # how much a reset connection loses is chance
        assert site.requests == [(None, None), ("bytes=200000-", '"one"')]
        assert site.given == len(CONTENT)  # no byte twice


def test_it_goes_on_as_long_as_something_comes(site, asset, tmp_path):
    site.faults = ["breaks off"] * 12  # many more than the tries that may bring nothing
    assert get(asset, tmp_path) == CONTENT
    assert site.given == len(CONTENT)
    assert len(site.requests) == 13


def test_it_gives_up_where_nothing_comes_and_goes_on_the_next_time(site, asset, tmp_path):
    site.faults = ["breaks off"] + ["gives nothing"] * TRIES
    with pytest.raises(OSError, match=r"cannot be downloaded: interrupted at 200000 of 400000 bytes; check the"):
        fetch(asset, tmp_path)
    assert len(site.requests) == TRIES
    assert state(asset, tmp_path) == (tmp_path / "file.bin", None, 200_000, None)
    assert get(asset, tmp_path) == CONTENT
    assert site.requests[-1] == ("bytes=200000-", '"one"')


def test_a_silent_server_is_given_up_in_time(site, asset, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.2)
    site.faults = ["hangs"]
    assert get(asset, tmp_path) == CONTENT
    assert not site.released  # the first request still hangs
    assert len(site.requests) == 2


FETCH = "import sys; from pathlib import Path; from ssl_vc.hub.download import Asset, fetch; fetch(Asset('file.bin', "


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_a_killed_process_is_continued(site, asset, tmp_path):
    site.faults = ["hangs"]
    process = subprocess.Popen([sys.executable, "-c", f"{FETCH}{site.url!r}), Path({str(tmp_path)!r}))"])
    part = tmp_path / "file.bin.part"
    wait_for(lambda: part.exists() and part.stat().st_size >= 3 * transfer.BLOCK)  # of 200 000 that were sent
    process.send_signal(signal.SIGKILL)
    process.wait()
    had = part.stat().st_size
    site.given = 0
    assert get(asset, tmp_path) == CONTENT
    assert site.requests[1:] == [(f"bytes={had}-", '"one"')]
    assert site.given == len(CONTENT) - had


def test_of_several_at_once_one_fetches_and_the_others_wait(site, asset, tmp_path, caplog):
    site.faults = ["is slow"]
    results = []
    with caplog.at_level(logging.INFO, "ssl_vc.hub.download"):
        threads = [threading.Thread(target=lambda: results.append(get(asset, tmp_path))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [CONTENT] * 4
    assert len(site.requests) == 1
    assert "another process is downloading file.bin; waiting for it" in caplog.text


@pytest.mark.parametrize("fault", ["announces too much", "announces too little"])
def test_a_length_that_is_not_the_published_one_is_refused_at_once(site, tmp_path, fault):
    site.faults = [fault]
    with pytest.raises(OSError, match=r"announces \d+ bytes instead of 400000; open the address in a browser"):
        fetch(Asset("file.bin", site.url, len(CONTENT)), tmp_path)
    assert len(site.requests) == 1
    assert names(tmp_path) == {"file.bin.lock"}


def test_no_length_is_fine_only_if_it_is_known(site, asset, tmp_path):
    site.faults = ["announces nothing"] * 2
    with pytest.raises(OSError, match="does not announce the length"):
        fetch(asset, tmp_path)
    assert get(Asset("file.bin", site.url, len(CONTENT)), tmp_path) == CONTENT


def test_a_wrong_file_is_thrown_away(site, tmp_path):
    asset = Asset("file.bin", site.url, len(CONTENT), SHA256)
    site.content = OTHER
    with pytest.raises(ValueError, match=rf"file\.bin is discarded: .* and the published file {SHA256}\.$"):
        fetch(asset, tmp_path)
    assert names(tmp_path) == {"file.bin.lock"}
    site.content = CONTENT
    assert get(asset, tmp_path) == CONTENT
    assert "file.bin.sha256" not in names(tmp_path)  # what is published is not pinned


@pytest.mark.parametrize("fault", ["", "ignores If-Range", "goes on elsewhere"])
def test_two_versions_are_not_glued(site, asset, tmp_path, fault):
    site.faults = ["breaks off"] + ["gives nothing"] * TRIES
    with pytest.raises(OSError, match="interrupted"):
        fetch(asset, tmp_path)
    site.content, site.faults = OTHER, [fault]
    if fault != "goes on elsewhere":
        site.etag = '"two"'
    assert get(asset, tmp_path) == OTHER


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"url": 3}', '{"url": "x", "validator": "y", "total": 400000}'])
def test_a_part_of_unknown_make_begins_anew(site, asset, tmp_path, record):
    (tmp_path / "file.bin.part").write_bytes(OTHER[:1000])
    (tmp_path / "file.bin.part.json").write_text(record)
    assert get(asset, tmp_path) == CONTENT
    assert site.requests == [(None, None)]


@pytest.mark.parametrize("status", ["403", "404", "410"])
def test_what_is_not_there_is_said_at_once(site, asset, tmp_path, status):
    site.faults = [status]
    with pytest.raises(OSError, match=rf"file\.bin cannot be downloaded: the server answers {status} \(.+\); open"):
        fetch(asset, tmp_path)
    assert len(site.requests) == 1


@pytest.mark.parametrize("status", ["500", "503", "429"])
def test_what_may_pass_is_tried_again(site, asset, tmp_path, status):
    site.faults = [status] * (TRIES - 1)
    assert get(asset, tmp_path) == CONTENT
    site.faults = [status] * TRIES
    with pytest.raises(OSError, match=f"answers {status}"):
        fetch(asset, tmp_path, force=True)


def test_nobody_there(tmp_path, site):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/file.bin"
    with pytest.raises(OSError, match=r"cannot be downloaded: .*refused; check the network"):
        fetch(Asset("file.bin", url), tmp_path)


def test_redirections_are_followed_with_the_range(site, asset, tmp_path):
    site.faults = ["to /elsewhere", "breaks off", "to /elsewhere", ""]
    assert get(asset, tmp_path) == CONTENT
    assert [wanted for wanted, _ in site.requests] == [None, None, "bytes=200000-", "bytes=200000-"]


@pytest.mark.parametrize("target", ["file:///etc/hostname", "http://example.com/x", "ftp://example.com/x", "data:,x"])
def test_redirections_into_the_unsafe_are_refused(site, asset, tmp_path, target):
    site.faults = [f"to {target}"]
    with pytest.raises(OSError, match=r"refused: only https addresses are|answers 302"):
        fetch(asset, tmp_path)
    assert len(site.requests) == 1


@pytest.mark.parametrize("url", ["http://example.com/x", "file:///etc/hostname", "x"])
def test_unsafe_addresses_are_refused(tmp_path, url):
    with pytest.raises(OSError, match="only https addresses are"):
        fetch(Asset("file.bin", url), tmp_path)


def test_https_is_never_left():
    """A test's server cannot speak https, so the handler is asked itself."""
    answer, asked = io.BytesIO(), Request("https://example.com/x")
    handler = transfer._Redirects()
    assert handler.redirect_request(asked, answer, 302, "", {}, "https://example.org/x").full_url.endswith(".org/x")
    with pytest.raises(OSError, match="http://localhost/x is refused"):
        handler.redirect_request(asked, answer, 302, "", {}, "http://localhost/x")
    assert answer.closed


def test_a_checksum_that_nobody_publishes_is_pinned(site, asset, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "ssl_vc.hub.download"):
        fetch(asset, tmp_path)
    assert f"file.bin: no checksum is published; pinned {SHA256}" in caplog.text
    note, line = (tmp_path / "file.bin.sha256").read_text().splitlines()
    today = time.strftime("%Y-%m-%d")
    assert note == f"# pinned on {today}, at the first download; none is published"
    assert line == f"{SHA256}  file.bin"  # as sha256sum writes it
    assert state(asset, tmp_path) == (tmp_path / "file.bin", len(CONTENT), 0, (SHA256, today))


def test_the_pin_outlives_the_file(site, asset, tmp_path):
    fetch(asset, tmp_path).unlink()
    site.content, site.etag = OTHER, '"two"'
    with pytest.raises(ValueError, match=rf"had {SHA256} \(if the publisher has replaced it .* delete .*\.sha256\)\.$"):
        fetch(asset, tmp_path)
    assert not (tmp_path / "file.bin").exists()
    (tmp_path / "file.bin.sha256").unlink()
    assert get(asset, tmp_path) == OTHER


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "damage", [lambda old: old[:-1], lambda old: old[:9] + b"?" + old[10:]], ids=["cut", "flipped"]
)
def test_a_damaged_file_is_refused_with_the_cure(site, tmp_path, known, damage):
    asset = Asset("file.bin", site.url, len(CONTENT), SHA256 if known else None, model="a-model")
    path = fetch(asset, tmp_path)
    path.write_bytes(damage(CONTENT))
    os.utime(path, ns=(0, 0))
    with pytest.raises(
        ValueError, match=r"file\.bin has .*; `ssl-vc models fetch a-model --force` downloads it again\.$"
    ):
        fetch(asset, tmp_path)
    assert get(asset, tmp_path, force=True) == CONTENT


def test_an_unchanged_file_is_not_read_again(site, asset, tmp_path, monkeypatch):
    read, digest = [], hashlib.file_digest
    monkeypatch.setattr(download.hashlib, "file_digest", lambda *given: read.append(1) or digest(*given))
    path = fetch(asset, tmp_path)
    for _ in range(3):
        fetch(asset, tmp_path)
    assert len(read) == 1
    fetch(asset, tmp_path, thorough=True)
    assert len(read) == 2
    os.utime(path, ns=(0, 0))
    for _ in range(3):
        fetch(asset, tmp_path)
    assert len(read) == 3


def test_a_file_put_there_by_hand_is_pinned_too(site, asset, tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT)
    assert get(asset, tmp_path, offline=True) == CONTENT
    assert state(asset, tmp_path).pin.sha256 == SHA256
    assert site.requests == []


@pytest.mark.parametrize("variable", ["SSL_VC_OFFLINE", "HF_HUB_OFFLINE", None])
def test_offline_touches_no_network(site, asset, tmp_path, monkeypatch, variable):
    if variable:
        monkeypatch.setenv(variable, "1")
    with pytest.raises(OSError, match=r"run `ssl-vc models fetch a-model` online, or put http.* by hand\.$"):
        fetch(asset, tmp_path / "cache", offline=not variable)
    assert site.requests == []
    assert not (tmp_path / "cache").exists()


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SSL_VC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == tmp_path / ".cache" / "ssl-vc"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "ssl-vc"
    monkeypatch.setenv("SSL_VC_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_full_disk_is_one_sentence_and_keeps_the_part(site, asset, tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"the cache folder .* cannot be used: File too large; free space, or set"):
            fetch(asset, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(site.requests) == 1  # another try would not mend it
    assert get(asset, tmp_path) == CONTENT
    assert site.requests[1][0].startswith("bytes=")


def test_a_folder_that_cannot_be_is_one_sentence(site, asset, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be used: Not a directory; .* SSL_VC_CACHE .*\.$"):
        fetch(asset, tmp_path / "file" / "cache")


def test_a_cache_that_may_only_be_read_serves(site, asset, tmp_path, monkeypatch):
    (tmp_path / "file.bin").write_bytes(CONTENT)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(download, "replacing", refuse)  # root may write everywhere, so chmod would show nothing
    assert get(asset, tmp_path) == CONTENT
    assert names(tmp_path) == {"file.bin"}
