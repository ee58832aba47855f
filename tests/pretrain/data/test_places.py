import tarfile
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile

from pretrain.data import places
from pretrain.data.shards import Shards

COMMAND = "pipe:touch ran"  # in the current folder, which is that of the test


@pytest.fixture
def tar(tmp_path, monkeypatch):
    """A shard of three clips, and a current folder in which a command would leave a file called ran."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(places, "PAUSES", (0.0, 0.0))
    with tarfile.open(tmp_path / "shard.tar", "w") as file:
        for clip in range(3):
            path = tmp_path / f"{clip}.wav"
            soundfile.write(path, np.sin(np.arange(1600 + clip) / 9) / 2, 16_000)
            file.add(path, path.name)
    return tmp_path / "shard.tar"


def keys(source):
    return [clip.key for clip, _ in Shards(source, buffer=1).stream(0)]


COMMANDS = (COMMAND, "PIPE:touch ran", "a.tar::pipe:touch ran", "{pipe:touch ran,a.tar}")
OTHERS = ("file:///a.tar", "ftp://a/b.tar", "sftp://a/b.tar", "gs://a/b.tar", "hf://a/b.tar", "ais://a/b.tar")


@pytest.mark.parametrize("address", [*COMMANDS, *OTHERS, "http://example.org/a.tar"])
def test_an_address_runs_nothing(tar, address):
    for source in (address,) if address in COMMANDS else (address, [tar, address]):
        with pytest.raises(ValueError, match=r"is refused; shards are a folder of .tar files, paths, or https"):
            keys(source)
    assert not any(Path.cwd().iterdir())


def test_the_environment_runs_nothing(tar, monkeypatch):
    monkeypatch.setenv("WDS_PLACE", COMMAND)
    with pytest.raises(ValueError, match="is refused"):
        keys("${PLACE}")
    monkeypatch.setenv("GOPEN_REWRITE", f"{tar.parent}=pipe:touch ran;")
    assert len(keys(str(tar))) == 3
    assert not any(Path.cwd().iterdir())


def test_a_name_runs_nothing(tar):
    name = "pipe:touch ran;.tar"
    Path(name).write_bytes(tar.read_bytes())
    folder = Path("pipe:touch ran;")
    folder.mkdir()
    (folder / "a.tar").write_bytes(tar.read_bytes())
    (folder / "b{0..9}.tar").write_bytes(tar.read_bytes())
    for source, clips in ((".", 3), (name, 3), ([name], 3), ([Path(name)], 3), (str(folder), 6), (folder, 6)):
        assert len(keys(source)) == clips
    assert keys([Path("pipe:touch ran; gone.tar")]) == []
    assert not Path("ran").exists()


class Server(BaseHTTPRequestHandler):
    """Serves a file; some addresses do not, or not at once."""

    def __init__(self, data, asked, *args):
        self.data, self.asked = data, asked
        super().__init__(*args)

    def do_GET(self):
        self.asked.append(self.path)
        status = {"/gone.tar": 404, "/busy.tar": 200 if self.asked.count("/busy.tar") > 1 else 503, "/sent.tar": 302}
        self.send_response(status.get(self.path, 200))
        self.send_header("Content-Length", str(len(self.data)))
        self.send_header("Location", "ftp://localhost/a.tar")
        self.end_headers()
        self.wfile.write(self.data[: 4096 if self.path == "/cut.tar" else None])  # the first clip, to the byte

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tar):
    """The address of a server on this machine, and the list of what it is asked for."""
    asked = []
    with HTTPServer(("127.0.0.1", 0), partial(Server, tar.read_bytes(), asked)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_addresses_are_read(tar, server, caplog):
    address, asked = server
    assert keys(f"{address}/a{{0..1}}.tar") == keys([tar, tar]) == ["0", "1", "2"] * 2
    assert sorted(asked) == ["/a0.tar", "/a1.tar"]
    assert keys(f"{address}/busy.tar") == ["0", "1", "2"]
    assert not caplog.records
    for name, said in (("gone", "404"), ("sent", "this address is refused"), ("cut", "the download was interrupted")):
        caplog.clear()
        assert keys(f"{address}/{name}.tar") == []
        assert f"{address}/{name}.tar skipped: " in caplog.text
        assert said in caplog.text
    assert asked[4:] == ["/gone.tar", "/sent.tar", "/cut.tar"]


def test_a_server_that_is_not_there_is_passed_over(tar, caplog):
    assert keys(["http://localhost:9/a.tar", tar]) == ["0", "1", "2"]
    assert "http://localhost:9/a.tar skipped: " in caplog.text
