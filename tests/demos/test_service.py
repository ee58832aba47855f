"""The example service, in this process: what it answers, what it refuses and how, and that it never takes too much."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import anyio
import numpy as np
import pytest
import soundfile

import ssl_vc

pytest.importorskip("fastapi", reason="fastapi is not installed (extra demo)")
pytest.importorskip("httpx", reason="httpx, which starlette's test client needs, is not installed")
from starlette.testclient import TestClient

from demos import service

SAMPLES = Path(service.__file__).parent / "samples"


@pytest.fixture(scope="module")
def converter():
    return ssl_vc.VoiceConverter.from_pretrained("tiny", device="cpu", dtype="float32")


@pytest.fixture
def app(converter, tmp_path):
    return service.create(converter, tmp_path / "voices", workers=1, queue=1)


@pytest.fixture
def client(app):
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="module")
def clips():
    """A source and a target as the bytes of flac files."""

    def content(name, seconds):
        file = io.BytesIO()
        soundfile.write(file, ssl_vc.read(SAMPLES / name)[: seconds * 16_000].numpy(), 16_000, format="FLAC")
        return file.getvalue()

    return content("source.flac", 1), content("emma.opus", 3)


def refused(response, status, sentence):
    assert (response.status_code, response.json()) == (status, {"error": sentence})


def test_a_conversion_is_that_of_the_converter(client, converter, clips):
    source, target = clips
    files = [("source", source), ("target", target)]
    with client.stream("POST", "/convert", files=files, data={"k": "2", "pitch": "3"}) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"] == "audio/wav"
        blocks = list(answer.iter_bytes())
    with soundfile.SoundFile(io.BytesIO(b"".join(blocks))) as sound:
        assert (sound.samplerate, sound.channels) == (converter.sample_rate, 1)
        assert sound.comment == "Synthetic speech, made with ssl-vc"
        wav = sound.read()
    wanted = converter.convert(source, converter.enroll(target), k=2, pitch=3).numpy()
    assert len(wav) == len(wanted) and np.abs(wav - wanted).max() < 1e-3


def test_a_voice_is_saved_listed_and_used(client, clips, tmp_path):
    source, target = clips
    assert client.get("/voices").json() == {"voices": []}
    saved = client.post("/voices", files=[("target", target)], data={"name": "emma"})
    assert saved.status_code == 201 and saved.json() == {"name": "emma", "seconds": pytest.approx(2.8, abs=0.2)}
    assert client.get("/voices").json() == {"voices": ["emma"]}
    assert ssl_vc.Voice.load(tmp_path / "voices" / "emma.voice").name == "emma"
    by_name = client.post("/convert", files={"source": source}, data={"voice": "emma"})
    by_clips = client.post("/convert", files=[("source", source), ("target", target)])
    assert by_name.status_code == 200 and by_name.content == by_clips.content
    again = client.post("/voices", files=[("target", target)], data={"name": "emma"})
    refused(again, 409, "There is a voice 'emma' already; choose another name.")


def test_its_health_says_what_it_runs(client, converter):
    assert client.get("/health").json() == {"status": "ok", "model": repr(converter), "workers": 1}


def test_what_cannot_be_done_is_refused_with_one_sentence(client, clips):
    source, target = clips
    post = partial(client.post, "/convert")
    both = "Give either `target`, recordings of a speaker, or `voice`, a saved voice's name."
    refused(post(files={"source": source}), 422, both)
    refused(post(files={"source": source, "target": target}, data={"voice": "emma"}), 422, both)
    missing = "There is no voice 'emma'; GET /voices lists them."
    refused(post(files={"source": source}, data={"voice": "emma"}), 404, missing)
    refused(post(files={"target": target}), 422, "The field 'source' is not valid: Field required.")
    name = "A voice's name has 1 to 50 letters, digits, - and _; choose such a name."
    refused(post(files={"source": source}, data={"voice": "../emma"}), 422, name)
    refused(client.post("/voices", files={"target": target}, data={"name": "a/b"}), 422, name)
    text = "The audio is not an audio file, or its start is missing; give wav, flac, ogg, opus, mp3 or aiff."
    refused(post(files={"source": b"this is no sound", "target": target}), 422, text)
    k = "k is 'many'; give a whole number."
    refused(post(files={"source": source, "target": target}, data={"k": "many"}), 422, k)
    refused(client.get("/nothing"), 404, "Not Found")


def test_limits_of_size_number_and_duration(client, clips, monkeypatch):
    source, target = clips
    post = partial(client.post, "/convert")
    monkeypatch.setattr(service, "MAX_FILES", 1)
    several = [("source", source), ("target", target), ("target", target)]
    refused(post(files=several), 413, "You sent 2 files; the limit is 1.")
    silence = io.BytesIO()
    soundfile.write(silence, np.full(16_000 * 60 * 11, 0.1, np.float32), 16_000, format="FLAC")
    long = "This is longer than 10 minutes; send a shorter recording."
    refused(post(files={"source": silence.getvalue(), "target": target}), 422, long)
    monkeypatch.setattr(service, "MAX_BYTES", 1 << 14)
    refused(post(files={"source": source, "target": target}), 413, "A file is larger than 0 MB; send a smaller one.")
    monkeypatch.setattr(service, "ADDRESS_BYTES", 1 << 14)
    total = "All files together must not be larger than 0 MB."
    refused(post(files={"source": source, "target": target}), 413, total)


def test_a_failure_is_answered_without_its_reason(app, converter, clips, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("secret")

    monkeypatch.setattr(converter, "convert", fail, raising=False)
    client = TestClient(app, raise_server_exceptions=False)
    answer = client.post("/convert", files=[("source", clips[0]), ("target", clips[1])])
    refused(answer, 500, "The service failed; its log says why.")


def test_more_requests_than_places_are_told_to_come_again(app, clips, monkeypatch):
    """One is at work, one waits, and the third is refused; then there is room again."""
    started, go_on, waiting = threading.Semaphore(0), threading.Event(), threading.Event()

    def convert(*_):
        started.release()
        assert go_on.wait(20)
        return io.BytesIO(b"done")

    monkeypatch.setattr(service.Service, "convert", convert)
    monkeypatch.setattr(service, "receive_within", told(service.receive_within, waiting))
    with TestClient(app) as client:
        answers = []
        post = partial(client.post, "/convert", files={"source": clips[0]})
        threads = [threading.Thread(target=lambda: answers.append(post())) for _ in range(2)]
        threads[0].start()
        assert started.acquire(timeout=20)
        waiting.clear()
        threads[1].start()
        assert waiting.wait(20)
        third = post()
        refused(third, 503, "All workers are busy; try again in 5 seconds.")
        assert third.headers["retry-after"] == "5" and client.get("/health").status_code == 200
        assert not started.acquire(blocking=False)  # the second waits for the worker
        go_on.set()
        for thread in threads:
            thread.join(20)
        assert [answer.content for answer in answers] == [b"done"] * 2
        assert post().status_code == 200


def told(function, event):
    """A function that sets an event when it is called."""

    async def call(*arguments):
        event.set()
        return await function(*arguments)

    return call


def test_a_request_that_pauses_is_refused(converter, tmp_path, monkeypatch):
    monkeypatch.setattr(service, "PATIENCE", 0.05)
    app, sent = service.create(converter, tmp_path), []

    async def pause():
        await anyio.sleep(10)

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": "/convert", "headers": headers, "query_string": b""}
    with ThreadPoolExecutor(1) as thread:  # of its own: a browser's test leaves this one with a running loop
        thread.submit(anyio.run, app, scope, pause, send).result()
    assert sent[0]["status"] == 408 and b"The request came too slowly." in sent[1]["body"]


def test_the_command_checks_its_arguments(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["service", "--workers", "0"])
    with pytest.raises(SystemExit):
        service.main()
    assert "--workers is at least 1" in capsys.readouterr().err


def test_the_command_serves_the_model(monkeypatch, converter, tmp_path):
    served = []
    monkeypatch.setattr("uvicorn.run", lambda app, **where: served.append((app.title, where)))
    monkeypatch.setattr(ssl_vc.VoiceConverter, "from_pretrained", lambda name: converter)
    monkeypatch.setattr(service, "prepare_inference", lambda threads: None)
    monkeypatch.setattr("sys.argv", ["service", "--port", "8123", "--workers", "2", "--voices", str(tmp_path / "new")])
    service.main()
    assert served == [("ssl-vc", {"host": "127.0.0.1", "port": 8123})] and (tmp_path / "new").is_dir()
