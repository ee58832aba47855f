"""The demo by its API, as programs use it: what comes out, what is refused and how, and that sessions are apart."""

import csv
import io
import json
import re
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import ssl_vc

gradio_client = pytest.importorskip("gradio_client")
ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "demos" / "samples"
RATE = 16_000


@pytest.fixture(scope="module")
def client(server):
    return gradio_client.Client(server, verbose=False)


def sent(path):
    return gradio_client.handle_file(path)


def test_a_conversion(client, sounds):
    wav, pictures, status = client.predict(
        sent(sounds / "source.wav"), [sent(sounds / "target.wav")], api_name="/convert"
    )
    with soundfile.SoundFile(wav) as file:
        assert file.frames / file.samplerate == pytest.approx(3, abs=0.02)
        assert file.comment == "Synthetic speech, made with ssl-vc"
    assert "3.0 s of speech in" in status
    assert [pictures.count(f"<h3>{name}</h3>") for name in ("source", "target", "result")] == [1, 1, 1]


def test_what_it_gives_is_what_the_converter_gives(client, sounds):
    wav, *_ = client.predict(
        sent(sounds / "source.wav"), [sent(sounds / "target.wav")], blend=0.5, k=8, api_name="/convert"
    )
    vc = ssl_vc.VoiceConverter.from_pretrained("tiny", device="cpu")
    wanted = vc.convert(sounds / "source.wav", vc.enroll(sounds / "target.wav"), blend=0.5, k=8)
    assert np.abs(soundfile.read(wav)[0] - wanted.numpy()).max() < 0.02


def test_a_saved_voice_converts_alike(client, sounds):
    voice = client.predict([sent(sounds / "target.wav")], api_name="/save_voice")
    voice = voice["value"]  # the button also makes it seen
    assert voice.endswith("target.voice") and ssl_vc.Voice.load(voice).seconds == pytest.approx(8, abs=0.3)
    from_voice, *_ = client.predict(sent(sounds / "source.wav"), None, saved=sent(voice), api_name="/convert")
    from_clips, *_ = client.predict(sent(sounds / "source.wav"), [sent(sounds / "target.wav")], api_name="/convert")
    assert np.abs(soundfile.read(from_voice)[0] - soundfile.read(from_clips)[0]).max() < 0.02


def test_a_mix_of_two_voices(client, sounds):
    pair = [sent(sounds / "target.wav")], [sent(sounds / "source.wav")]
    one, half, other = (
        soundfile.read(
            client.predict(sent(sounds / "source.wav"), pair[0], other=pair[1], share=share, api_name="/convert")[0]
        )[0]
        for share in (0, 0.5, 1)
    )
    assert np.abs(one - half).max() > 0.05 and np.abs(half - other).max() > 0.05


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("empty.wav", "is empty (0 bytes); save or download it again."),
        ("text.wav", "is not an audio file, or its start is missing; give wav, flac, ogg, opus, mp3 or aiff."),
        ("silent.wav", "is silent throughout; give a recording with speech in it."),
        ("nan.wav", "has samples that are NaN or infinite; repair it first."),
        ("long.flac", "This is longer than 10 minutes; send a shorter recording."),
    ],
)
def test_bad_sounds_are_refused_in_a_sentence(client, sounds, name, problem):
    with pytest.raises(gradio_client.exceptions.AppError) as caught:
        client.predict(sent(sounds / name), [sent(sounds / "target.wav")], api_name="/convert")
    assert problem in str(caught.value)
    assert "/" not in str(caught.value).replace(problem, "")  # where files lie is nobody's business


def test_what_is_missing_is_said(client, sounds):
    with pytest.raises(gradio_client.exceptions.AppError, match="Add a target voice first"):
        client.predict(sent(sounds / "source.wav"), None, api_name="/convert")
    with pytest.raises(gradio_client.exceptions.AppError, match="Add a recording to convert first"):
        client.predict(None, [sent(sounds / "target.wav")], api_name="/convert")
    (sounds / "bad.voice").write_bytes((sounds / "target.wav").read_bytes()[:1000])
    with pytest.raises(gradio_client.exceptions.AppError, match=r"bad\.voice is not a voice that this version reads"):
        client.predict(sent(sounds / "source.wav"), None, saved=sent(sounds / "bad.voice"), api_name="/convert")


def fetched(request, timeout=30):
    """Give what a server answers."""
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read().decode()


def posted(server, file):
    """Send a request by hand, with a file that the server is to take for an uploaded one; gives what it answers."""
    body = json.dumps({"data": [file, [file], None, None, None, 0.5, 1, 0, "auto", "keep", 0, 1]}).encode()
    request = urllib.request.Request(f"{server}/gradio_api/call/convert", body, {"Content-Type": "application/json"})
    event = json.loads(fetched(request))["event_id"]
    return fetched(f"{server}/gradio_api/call/convert/{event}", 120)


def test_no_path_is_opened(server, sounds):
    """A request that names a file of the server, or an address, is refused; one that names an upload is not."""
    with (sounds / "source.wav").open("rb") as file:
        boundary = "part"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="source.wav"\r\n\r\n'
        body = head.encode() + file.read() + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(f"{server}/gradio_api/upload", body, headers)
    (uploaded,) = json.loads(fetched(request))
    meta = {"meta": {"_type": "gradio.FileData"}}
    assert "event: complete" in posted(server, {"path": uploaded, **meta})
    for path in (str(sounds / "source.wav"), "/etc/passwd", "../../etc/passwd", "https://example.org/a.wav"):
        status = posted(server, {"path": path, **meta})
        assert "event: error" in status and "event: complete" not in status
    assert "addresses are not fetched" in status


def test_nobody_passes_by_the_queue(server):
    request = urllib.request.Request(
        f"{server}/gradio_api/run/units", b'{"data": []}', {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetched(request)
    caught.value.close()
    assert caught.value.code in (401, 403, 404)


def refused(server, path, body=None):
    """Returns the status and the text of a refusal."""
    request = urllib.request.Request(f"{server}{path}", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetched(request)
    with caught.value as error:
        return error.code, error.read().decode()


def test_what_is_none_of_a_users_business(server):
    for path in ("/monitoring/summary", "/monitoring"):
        assert refused(server, path)[0] == 403
    for path in ("call/nothing", "call/v2/nothing", "run/nothing", "queue/join"):
        body = json.dumps({"data": [], "fn_index": 999, "session_hash": "x"} if "queue" in path else {"data": []})
        status, text = refused(server, f"/gradio_api/{path}", body.encode())
        assert status == 404 and "The API has no such function" in text
    assert "event: error" in fetched(f"{server}/gradio_api/call/convert/nothing")
    status, text = refused(server, "/gradio_api/call/convert", json.dumps({"data": ["x" * 5_000_000]}).encode())
    assert status == 413 and "larger than 256 kB" in text


def test_units(client, sounds):
    sizes = []
    for level in (1, 5):
        wav, _, status, file = client.predict(
            sent(sounds / "source.wav"), level, "the source speaker", None, api_name="/units"
        )
        assert soundfile.info(wav).duration == pytest.approx(3, abs=0.02)
        coded = ssl_vc.Units.load(file)
        assert coded.samples == 3 * RATE
        sizes.append(int(re.search(r"\*\*(\d+) bits per second", status)[1]))
    assert 100 < sizes[0] < 300 < sizes[1]


def test_speech(client, sounds):
    wav, _, status = client.predict("Hello, world. This is it.", [sent(sounds / "target.wav")], api_name="/speak")
    assert 1 < soundfile.info(wav).duration < 6 and "by target" in status
    for text, problem in (
        ("", "Enter a text first"),
        ("...", "there is nothing to say"),
        ("привет", "not English"),
    ):
        with pytest.raises(gradio_client.exceptions.AppError, match=problem):
            client.predict(text, None, api_name="/speak")


def test_many_at_once(client, sounds):
    """A bad recording never stops the others."""
    whole, table, status = client.predict(
        [sent(sounds / name) for name in ("source.wav", "empty.wav")],
        [sent(sounds / "target.wav"), sent(sounds / "source.wav")],
        api_name="/batch",
    )
    assert status == "2 of 4 conversions done."
    with zipfile.ZipFile(whole) as file:
        rows = list(csv.DictReader(io.TextIOWrapper(file.open("report.csv"), "utf-8")))
        assert sorted(file.namelist()) == sorted(["report.csv", *(row["output"] for row in rows if row["output"])])
        for row in rows:
            if row["state"] == "done":
                wav, rate = soundfile.read(io.BytesIO(file.read(row["output"])))
                assert len(wav) / rate == pytest.approx(3, abs=0.02)
    assert [row["state"] for row in rows] == ["failed", "done", "done"]
    assert "empty.wav is empty" in rows[0]["error"].replace("'", "")
    assert len(table["data"]) == 3


def test_the_readme_of_the_demo(server):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "demos" / "README.md").read_text(), re.DOTALL)
    found = {}
    code = block.replace("http://127.0.0.1:7860", server).replace("demos/samples", str(SAMPLES))
    exec(compile(code, "README.md", "exec"), found)
    assert soundfile.info(found["wav"]).duration == pytest.approx(6.6, abs=0.2)
