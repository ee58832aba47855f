"""Models by name: the table, `ssl-vc models`, and kNN-VC's files from a server on this very machine."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial

import pytest
import torch

import ssl_vc
from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc.hub.registry import BUNDLED, MODELS, load_encoder, load_vocoder, model
from vocoder.hifigan import HiFiGAN, HiFiGANConfig

TODAY = "2026-02-03"
TINY = MODELS["tiny"]


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    for name in ("SSL_VC_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_VC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ssl_vc.hub.download.time.strftime", lambda *_: TODAY)
    return tmp_path / "cache"


@pytest.fixture
def published(golden, tmp_path, cache, monkeypatch):
    """A folder on the web with kNN-VC's files, small; of WavLM's six blocks the last four have the same weights."""
    folder = tmp_path / "published"
    folder.mkdir()
    wavlm, generator = golden("wavlm_large_like"), golden("knnvc_hifigan_generator")
    again = {
        key.replace("layers.2.", f"layers.{n}."): value
        for n in (3, 4, 5)
        for key, value in wavlm.weights.items()
        if key.startswith("encoder.layers.2.")
    }
    torch.save({"cfg": wavlm.config | {"encoder_layers": 6}, "model": wavlm.weights | again}, folder / "WavLM-Large.pt")
    for name in ("prematch_g_02500000.pt", "g_02500000.pt"):
        torch.save({"generator": generator.weights}, folder / name)
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder))) as server:
        for name in ("knn-vc", "knn-vc-plain"):
            known = MODELS[name]
            moved = {
                part: replace(
                    getattr(known, part),
                    url=f"http://127.0.0.1:{server.server_port}/{getattr(known, part).name}",
                    size=(folder / getattr(known, part).name).stat().st_size if name == "knn-vc" else None,
                )
                for part in ("encoder", "vocoder")
            }
            monkeypatch.setitem(MODELS, name, replace(known, **moved))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder
        server.shutdown()
        thread.join()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- the table


def test_the_table():
    assert list(MODELS) == ["tiny", "tiny-hifigan", "untrained", "knn-vc", "knn-vc-plain"]
    assert TINY.encoder == BUNDLED / "tiny" / "encoder"
    release = "https://github.com/bshall/knn-vc/releases/download/v0.1"
    for name, generator in (("knn-vc", "prematch_g_02500000.pt"), ("knn-vc-plain", "g_02500000.pt")):
        known = model(name)
        assert (known.name, known.layer, known.normalized, known.sample_rate) == (name, 6, False, 16_000)
        assert [part.url for part in known.assets] == [f"{release}/WavLM-Large.pt", f"{release}/{generator}"]
        assert {part.model for part in known.assets} == {name}
        assert {part.sha256 for part in known.assets} == {None}  # the publisher gives none, and none is invented
    possible = "tiny, tiny-hifigan, untrained, knn-vc, knn-vc-plain"
    with pytest.raises(ValueError, match=rf"no model 'nobody'; possible are {possible}\.$"):
        model("nobody")


def test_sizes_fit_the_published_shapes(golden):
    """A file of PyTorch is a little longer than the numbers in it."""
    for part, shapes in zip(MODELS["knn-vc"].assets, ("wavlm_large", "knnvc_hifigan_generator"), strict=True):
        numbers = sum(torch.Size(shape).numel() for shape in golden(f"shapes_{shapes}").shapes.values())
        assert 4 * numbers < part.size < 4 * numbers + 250_000


# ---- loading


def test_knn_vc_from_a_folder_with_its_files(published, tmp_path):
    by_name = ssl_vc.VoiceConverter.from_pretrained("knn-vc", device="cpu")
    files = published / "WavLM-Large.pt", published / "prematch_g_02500000.pt"
    for name, vocoder in ((published, None), (files[0], files[1])):
        local = ssl_vc.VoiceConverter.from_pretrained(str(name), vocoder=vocoder, device="cpu", offline=True)
        assert local.extractor.spec == by_name.extractor.spec and local.same_frames
        weights = by_name.vocoder.state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in local.vocoder.state_dict().items())
    files[1].unlink()  # then the other one
    assert ssl_vc.VoiceConverter.from_pretrained(str(published), device="cpu").extractor.spec == by_name.extractor.spec


def test_knn_vc_from_its_published_files(published, golden, cache):
    encoder, vocoder = load_encoder("knn-vc"), load_vocoder("knn-vc")
    assert (encoder.config.normalized, encoder.config.matching_layer, encoder.config.depth) == (False, 6, 6)
    case = golden("wavlm_large_like")
    with torch.no_grad():
        layers = encoder.layers(case.input["source"][:1])
    assert (layers[2] - case.output["nomask.output_layer2"][:1]).abs().max() < 1e-4  # of the raw waveform
    assert load_encoder("knn-vc", normalized=True).config.normalized
    assert isinstance(vocoder, HiFiGAN)
    assert vocoder.reads == {"kind": "ssl", "layer": 6, "normalized": False}
    case = golden("knnvc_hifigan_generator")
    with torch.no_grad():
        assert (vocoder(case.input["features"]) - case.output["wav"][:, 0]).abs().max() < 1e-5
    assert {path.name for path in cache.glob("*.pt")} == {"WavLM-Large.pt", "prematch_g_02500000.pt"}


def test_once_fetched_no_network_is_needed(published, cache):
    with pytest.raises(OSError, match="run `ssl-vc models fetch knn-vc` online"):
        load_encoder("knn-vc", offline=True)
    with pytest.raises(OSError, match="run `ssl-vc models fetch knn-vc-plain` online"):
        load_vocoder("knn-vc-plain", offline=True)
    fetched = load_encoder("knn-vc"), load_vocoder("knn-vc-plain")
    for file in published.iterdir():
        file.unlink()
    again = load_encoder("knn-vc", offline=True), load_vocoder("knn-vc-plain", offline=True)
    assert again[0].fingerprint(6) == fetched[0].fingerprint(6)
    assert again[1].config == fetched[1].config


def test_a_damaged_file_is_not_loaded(published, cache):
    load_vocoder("knn-vc")
    path = cache / "prematch_g_02500000.pt"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    os.utime(path, ns=(0, 0))
    with pytest.raises(ValueError, match="`ssl-vc models fetch knn-vc --force` downloads it again"):
        load_vocoder("knn-vc")


SMALL = {"conv_dim": 16, "dim": 64, "depth": 1, "heads": 2, "ffn_dim": 64, "pos_kernel": 8, "pos_groups": 4}


@pytest.fixture
def pair():
    torch.manual_seed(0)
    encoder = SpeechEncoder(EncoderConfig.tiny(**SMALL, matching_layer=1))
    return encoder, HiFiGAN(HiFiGANConfig(dim=64, projection=8, channels=16, reads={"kind": "ssl", "layer": 1}))


def test_a_folder_of_both(tmp_path, pair, monkeypatch):
    for part, network in zip(("encoder", "vocoder"), pair, strict=True):
        network.save_pretrained(tmp_path / "tiny" / part)
    folder = str(tmp_path / "tiny")
    assert load_encoder(folder).fingerprint(1) == pair[0].fingerprint(1)
    assert load_vocoder(folder).config == pair[1].config
    bundled = replace(TINY, encoder=tmp_path / "tiny" / "encoder", vocoder=tmp_path / "tiny" / "vocoder")
    monkeypatch.setitem(MODELS, "tiny", bundled)
    assert bundled.bundled
    assert load_encoder("tiny").fingerprint(1) == pair[0].fingerprint(1)
    assert load_vocoder("tiny").config == pair[1].config


def test_a_bundled_model_that_is_not_there(tmp_path, monkeypatch):
    away = replace(TINY, encoder=tmp_path / "encoder", vocoder=tmp_path / "vocoder")
    monkeypatch.setitem(MODELS, "tiny", away)
    for load in (load_encoder, load_vocoder):
        with pytest.raises(ValueError, match="the folder of the model 'tiny', is missing; reinstall ssl-vc"):
            load("tiny")


def test_vocoders_that_belong_to_no_encoder(tmp_path, pair, golden):
    pair[0].save_pretrained(tmp_path / "ours")
    SpeechEncoder(EncoderConfig.wavlm_base(**SMALL | {"dim": 128})).save_transformers(tmp_path / "theirs")
    wavlm = golden("wavlm_large_like")
    torch.save({"cfg": wavlm.config, "model": wavlm.weights}, tmp_path / "WavLM.pt")
    for name in ("untrained", "torchaudio:WAVLM_LARGE", *(str(tmp_path / x) for x in ("ours", "theirs", "WavLM.pt"))):
        assert load_vocoder(name) is None
    (tmp_path / "ours" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is broken"):
        load_vocoder(str(tmp_path / "ours"))


def test_vocoders_of_every_kind_are_found(tmp_path, pair, golden):
    pair[1].save_pretrained(tmp_path / "ours")
    pair[1].save_pretrained(tmp_path / "training" / "model")
    torch.save({"generator": golden("knnvc_hifigan_generator").weights}, tmp_path / "generator")
    for name in ("ours", "training", "generator"):
        assert isinstance(load_vocoder(str(tmp_path / name)), HiFiGAN)
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"broken\.pt is no readable checkpoint"):
        load_vocoder(str(tmp_path / "broken.pt"))
    for name in ("nobody", str(tmp_path / "nowhere" / "at all")):
        with pytest.raises(ValueError, match=r"there is no model .*; possible are 'tiny' and 'tiny-hifigan' \(bundled"):
            load_vocoder(name)


def test_the_hubs_cache_serves_offline(tmp_path, pair):
    """The hub reads its settings when it is imported, so this is asked of a fresh process."""
    commit, home = "0123456789abcdef0123456789abcdef01234567", tmp_path / "hub"
    for repository, network in zip(("ours", "speaks"), pair, strict=True):
        base = home / f"models--somebody--{repository}"
        (base / "refs").mkdir(parents=True)
        (base / "refs" / "main").write_text(commit)
        network.save_pretrained(base / "snapshots" / commit)
    code = (
        "import socket, time; time.sleep = lambda _: None\n"
        "asked, connect = [], socket.socket.connect\n"
        "socket.socket.connect = lambda *given: asked.append(1) or connect(*given)\n"
        "from ssl_vc.hub.registry import load_encoder, load_vocoder\n"
        "for offline in (True, False):\n"
        "    print(load_encoder('somebody/ours', offline=offline).fingerprint(1))\n"
        "    print(load_vocoder('somebody/ours', offline=offline))\n"
        "    print(load_vocoder('somebody/speaks', offline=offline).config.kind, bool(asked))\n"
        "load_encoder('nobody/nothing', offline=True)\n"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    found = [pair[0].fingerprint(1), "None", "hifigan"]
    assert done.stdout.split() == [*found, "False", *found, "True"], done.stderr
    assert "ValueError: nobody/nothing is neither a folder nor in the cache of the hub" in done.stderr


# ---- the command


def test_list(run, cache, monkeypatch, tmp_path):
    monkeypatch.setitem(MODELS, "tiny", replace(TINY, encoder=tmp_path / "no"))
    status, out, err = run("models", "list")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *MODELS]
    assert lines[1].endswith("not in this version")
    assert lines[2].endswith("bundled") and lines[3].endswith("bundled")
    assert lines[4].split()[-4:] == ["1.33", "GB", "to", "fetch"]
    assert lines[5].endswith("unknown  to fetch")
    assert "16000 Hz" in lines[4]
    assert "MIT" in lines[4]


def test_list_as_json(run, published):
    status, out, _ = run("models", "list", "--json")
    facts = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [each["name"] for each in facts] == list(MODELS)
    assert {"what", "licence", "sample_rate", "size", "state", "files"} <= set(facts[0])
    assert facts[3]["size"] == sum(each["size"] for each in facts[3]["files"])


def test_fetch_verifies_and_says_what_is_pinned(run, published, cache):
    status, out, err = run("models", "fetch", "knn-vc")
    assert status == 0
    paths = [cache / "WavLM-Large.pt", cache / "prematch_g_02500000.pt"]
    for line, path in zip(out.splitlines(), paths, strict=True):
        assert line == (
            f"{path}: {path.stat().st_size:,} bytes, verified; sha256 {sha256(path)} "
            f"(pinned at the first download on {TODAY}; none is published)"
        )
    assert "info: WavLM-Large.pt: no checksum is published; pinned " in err
    status, out, err = run("models", "fetch", "knn-vc", "--offline", "--json")
    assert (status, err) == (0, "")
    facts = [json.loads(line) for line in out.splitlines()]
    assert [each["sha256"] for each in facts] == [sha256(path) for path in paths]
    assert facts[0]["pinned"] == TODAY
    assert facts[0]["model"] == "knn-vc"
    _, out, _ = run("models", "list")
    assert [line.split()[-1] for line in out.splitlines()[4:]] == ["fetched", "fetch"]


def test_fetch_reads_every_byte(run, published, cache):
    assert run("models", "fetch", "knn-vc")[0] == 0
    path = cache / "WavLM-Large.pt"
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(content[:-1] + b"?")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as nothing but the bytes could tell
    status, _, err = run("models", "fetch", "knn-vc")
    assert status == 1
    assert err.startswith("error: ")
    assert "`ssl-vc models fetch knn-vc --force` downloads it again" in err
    assert err.count("\n") == 1
    assert run("models", "fetch", "knn-vc", "--force")[0] == 0
    assert path.read_bytes() == content


def test_info(run, published, cache):
    _, out, _ = run("models", "info", "knn-vc")
    for line in ("layer     6", "waveform  raw", "rate      16000 Hz", "state     to fetch"):
        assert line in out.splitlines()
    assert out.count("none is published; it will be pinned at the first download") == 2
    cache.mkdir()
    (cache / "WavLM-Large.pt.part").write_bytes(b"123")
    assert "part      3 bytes are downloaded" in run("models", "info", "knn-vc")[1].splitlines()
    (cache / "WavLM-Large.pt.part").unlink()
    run("models", "fetch", "knn-vc")
    _, out, _ = run("models", "info", "knn-vc")
    assert out.count(f"(pinned at the first download on {TODAY}; none is published)") == 2
    assert "state     fetched" in out.splitlines()
    facts = json.loads(run("models", "info", "knn-vc", "--json")[1])
    assert facts["files"][0]["sha256"] == sha256(cache / "WavLM-Large.pt")


def test_a_published_checksum_is_called_so(run, published, monkeypatch):
    known = MODELS["knn-vc"]
    digest = sha256(published / "WavLM-Large.pt")
    monkeypatch.setitem(MODELS, "knn-vc", replace(known, encoder=replace(known.encoder, sha256=digest)))
    assert f"sha256    {digest} (as published)" in run("models", "info", "knn-vc")[1].splitlines()
    (published / "WavLM-Large.pt").write_bytes(b"?" * known.encoder.size)
    status, out, err = run("models", "fetch", "knn-vc")
    assert (status, out) == (1, "")
    assert f"and the published file {digest}." in err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["info", "nobody"], 1, "there is no model 'nobody'; possible are tiny"),
        (["fetch", "nobody"], 1, "there is no model 'nobody'; possible are tiny"),
        (["fetch", "knn-vc", "--offline"], 1, "run `ssl-vc models fetch knn-vc` online"),
        (["fetch", "knn-vc", "--offline", "--force"], 2, "give one of them"),
        (["fetch"], 2, "NAME"),
        ([], 2, "Missing command"),
    ],
)
def test_what_cannot_be_is_one_line(run, cache, arguments, status, words):
    got, out, err = run("models", *arguments)
    assert (got, out) == (status, "")
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_what_needs_no_fetching(run, cache, tmp_path, monkeypatch):
    status, _, err = run("models", "fetch", "untrained")
    assert (status, err) == (0, "done: untrained is bundled; there is nothing to download.\n")
    monkeypatch.setitem(MODELS, "tiny", replace(TINY, encoder=tmp_path / "no"))
    status, _, err = run("models", "fetch", "tiny")
    assert status == 1
    assert "'tiny' is not in this version, and not published yet" in err


def test_looking_does_not_load_torch():
    code = (
        "import sys\nfrom ssl_vc.cli.models import list_models, info\nlist_models(); info('knn-vc')\n"
        "print([name for name in ('torch', 'transformers', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
