"""The strict judges: a verifier in ONNX, Whisper and DistillMOS.

The ONNX file is tiny and written here, Whisper's package is a fake; the real ones run where they are installed.
"""

import contextlib
import math
import os
import sys
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

import ssl_vc
from ssl_vc.evaluate import distill_mos as mos_module
from ssl_vc.evaluate import whisper as whisper_module
from ssl_vc.evaluate.distill_mos import DistillMos
from ssl_vc.evaluate.onnx_verifier import OnnxVerifier
from ssl_vc.evaluate.recogniser import load_recogniser
from ssl_vc.evaluate.text_errors import ErrorCount, word_errors
from ssl_vc.evaluate.verifier import load_verifier
from ssl_vc.evaluate.whisper import FILES, Whisper, text_normalizer

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "demos" / "samples" / "source.flac"  # the north wind and the sun
JUDGES = Path(os.environ.get("SSL_VC_JUDGES") or ROOT.parent / "judges")
RATE = 16_000


def needs(*packages):
    missing = [name for name in packages if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


needs_onnx = needs("onnx", "onnxruntime", "kaldi_native_fbank")


@contextlib.contextmanager
def refused(message):
    """Expect a ValueError of one sentence."""
    with pytest.raises(ValueError, match=message) as caught:
        yield
    said = str(caught.value)
    assert said.endswith(".") and ". " not in said and "\n" not in said


MATRIX = np.random.default_rng(0).standard_normal((160, 12)).astype(np.float32)


def verifier_file(path, bands=80, batch=1, frames="frames", pooled=True):
    """Write a model that sees the mean and the maximum over time of its banks through a matrix."""
    from onnx import TensorProto, helper, numpy_helper, save

    banks = helper.make_tensor_value_info("feats", TensorProto.FLOAT, [batch, frames, bands])
    vector = helper.make_tensor_value_info("embs", TensorProto.FLOAT, [batch, 12] if pooled else [batch, 1, 12])
    nodes = [
        helper.make_node("ReduceMean", ["feats"], ["mean"], axes=[1], keepdims=int(not pooled)),
        helper.make_node("ReduceMax", ["feats"], ["most"], axes=[1], keepdims=int(not pooled)),
        helper.make_node("Concat", ["mean", "most"], ["both"], axis=-1),
        helper.make_node("MatMul", ["both", "matrix"], ["embs"]),
    ]
    graph = helper.make_graph(
        nodes, "verifier", [banks], [vector], [numpy_helper.from_array(MATRIX[: 2 * bands], "matrix")]
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def verifier(tmp_path):
    return OnnxVerifier(verifier_file(tmp_path / "campplus.onnx"))


@pytest.fixture
def voices(speech):
    """Two speakers."""
    return [speech(2.0, pitch=pitch, text=text) for pitch, text in ((110, 1), (210, 2))]


@needs_onnx
def test_an_embedding_is_what_the_model_makes_of_the_banks_less_their_mean(verifier, voices):
    for wav in voices:
        banks = verifier.filter_banks(wav / wav.abs().max())
        assert banks.shape == (198, 80)  # windows of 25 ms every 10 ms
        banks = banks - banks.mean(0)
        expected = torch.from_numpy(np.concatenate([banks.mean(0), banks.max(0)]) @ MATRIX)
        assert torch.allclose(verifier(wav), expected / expected.norm(), atol=1e-5)


@needs_onnx
def test_embeddings_have_unit_length_and_are_independent(verifier, voices):
    first, second, again = (verifier(wav) for wav in (*voices, voices[0]))
    assert torch.equal(first, again) and float(first @ second) < 0.99
    assert first.dtype == torch.float32 and float(first.norm()) == pytest.approx(1, abs=1e-6)


@needs_onnx
@pytest.mark.parametrize("gain", [0.01, 6.0])
def test_gain_does_not_matter(verifier, voices, gain):
    """Neither where quiet bands would come to lie below the floor of the logarithm."""
    assert torch.allclose(verifier(gain * voices[0]), verifier(voices[0]), atol=1e-4)


@needs_onnx
@pytest.mark.parametrize("hertz", [500, 1000, 3000])
def test_a_tone_is_loudest_in_the_band_that_holds_it(verifier, hertz):
    low, high, at = (1127 * math.log(1 + each / 700) for each in (20, 8000, hertz))
    width = (high - low) / 81  # from a band's centre to the next
    banks = verifier.filter_banks(0.5 * torch.sin(2 * math.pi * hertz * torch.arange(RATE) / RATE))
    assert int(banks.mean(0).argmax()) == round((at - low) / width) - 1


@needs_onnx
def test_it_says_which_file_judges(verifier, tmp_path):
    digest = sha256((tmp_path / "campplus.onnx").read_bytes()).hexdigest()[:12]
    assert verifier.versions == {"campplus.onnx": digest} and verifier.description.startswith(f"campplus ({digest})")
    assert load_verifier(str(tmp_path / "campplus.onnx")).versions == verifier.versions


@needs_onnx
def test_silence_is_nobody(verifier):
    with refused("the audio is silent"):
        verifier(torch.full((RATE,), 5e-5))
    with refused(r"the audio lasts 0\.40 s"):
        verifier(torch.ones(6400))


@needs_onnx
@pytest.mark.parametrize("shape", [{"bands": 40}, {"frames": 200}, {"batch": 2}, {"pooled": False}])
def test_another_model_is_no_verifier(tmp_path, shape):
    with refused(r"other\.onnx is no speaker verifier: it maps \["):
        OnnxVerifier(verifier_file(tmp_path / "other.onnx", **shape))


@needs_onnx
def test_a_file_that_is_damaged_or_missing(tmp_path):
    whole = verifier_file(tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    with refused(r"half\.onnx is no ONNX model, or is damaged"):
        OnnxVerifier(tmp_path / "half.onnx")
    for missing in (tmp_path / "none.onnx", tmp_path):
        with refused("cannot be read: "):
            OnnxVerifier(missing)


@pytest.mark.parametrize("package", ["onnxruntime", "kaldi_native_fbank"])
def test_without_its_packages_the_extra_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    monkeypatch.setitem(sys.modules, package, None)
    with refused(rf"campplus\.onnx needs {package}, which is missing; pip install 'ssl-vc\[eval\]'"):
        OnnxVerifier("campplus.onnx")


class WhisperModel:
    """Replaces faster-whisper's: always returns the same, and records its arguments."""

    supported_languages = ("en", "de")

    def __init__(self, folder, **options):
        if (Path(folder) / "model.bin").read_bytes() == b"cut":
            raise RuntimeError("File model.bin is incomplete:\nfailed to read a buffer.")
        self.folder, self.options, self.asked = folder, options, []

    def transcribe(self, wav, **options):
        self.asked.append((wav, options))
        return (SimpleNamespace(text=text) for text in (" The cat", " sat. ")), None


@pytest.fixture
def package(monkeypatch):
    module = ModuleType("faster_whisper")
    module.WhisperModel, module.available_models = WhisperModel, lambda: ["base"]
    module.download_model = lambda name: pytest.fail(f"{name} is fetched")
    monkeypatch.setitem(sys.modules, "faster_whisper", module)
    monkeypatch.setattr(whisper_module, "version", lambda name: "9.8")
    monkeypatch.setattr(whisper_module, "text_normalizer", lambda language: str.lower)
    return module


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "whisper").mkdir()
    for file in FILES:
        (tmp_path / "whisper" / file).write_text("weights")
    return tmp_path / "whisper"


def test_whisper_is_asked_for_what_it_says_every_time(package, folder, speech):
    whisper = load_recogniser(f"whisper:{folder}", [], language="de")
    assert list(whisper([speech(1.0), torch.rand(RATE * 31).double()])) == ["The cat sat."] * 2
    (wav, short), (_, long) = whisper._model.asked
    assert torch.equal(torch.from_numpy(wav), speech(1.0))
    for options in (short, long):
        assert options["temperature"] == 0 and options["language"] == "de"  # a list of temperatures would be tried
        assert options["condition_on_previous_text"] is False
    assert short["without_timestamps"] and not long["without_timestamps"]  # by which it goes on after 30 s
    assert whisper._model.asked[1][0].dtype == np.float32
    digest = sha256(b"weights").hexdigest()[:12]
    assert whisper.versions == {"whisper": digest, "faster-whisper": "9.8"} and digest in whisper.description


def test_whisper_is_not_asked_about_silence(package, folder):
    whisper = Whisper(str(folder))
    quiet = [torch.zeros(RATE), torch.full((RATE,), 5e-5), torch.rand(1500), torch.zeros(0)]
    assert list(whisper(quiet)) == [""] * 4 and not whisper._model.asked


def test_what_is_no_whisper_is_refused(package, folder, monkeypatch):
    with refused("whisper does not support the language 'tlh'; possible are de, en"):
        Whisper(str(folder), "tlh")
    for name in ("whisper", "whisper:"):  # of which the second would be the folder where one is
        with refused(f"there is no recogniser '{name}'; possible are whisper:FOLDER_OR_HUB_ID"):
            load_recogniser(name, [], offline=True)
    monkeypatch.chdir(folder.parent)
    for name in (str(folder / "none"), "none/none/none", "whisper/model.bin", "huge"):
        with refused(f"there is no folder '{name}'; use one with"):
            Whisper(name)
    (folder / "model.bin").write_bytes(b"cut")
    with refused(r"is no Whisper model of CTranslate2, or is damaged: File model\.bin is incomplete"):
        Whisper(str(folder))
    for file in reversed(FILES):
        (folder / file).unlink()
        with refused(f"whisper has no {file}; a Whisper model of CTranslate2 has"):
            Whisper(str(folder))
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with refused(r"Whisper needs faster-whisper, which is missing; pip install 'ssl-vc\[eval\]'"):
        Whisper(str(folder))


@pytest.mark.parametrize("name", ["nobody/whisper", "base"])
def test_a_whisper_of_the_hub_is_fetched_unless_offline(package, folder, monkeypatch, name):
    with refused("is neither a folder nor in the cache of the hub" if "/" in name else "there is no folder 'base'"):
        Whisper(name, offline=True)
    monkeypatch.setattr(package, "download_model", {name: folder}.get)
    assert Whisper(name)._model.folder == str(folder)
    (folder / "tokenizer.json").unlink()  # or the package would fetch another model's
    with refused(rf"{name} has no tokenizer\.json"):
        Whisper(name)

    def broken(asked):
        raise OSError("404 Client Error.\n\nRepository Not Found")

    monkeypatch.setattr(package, "download_model", broken)
    with refused(f"{name} is no local folder, and cannot be downloaded: 404 Client Error"):
        Whisper(name)


@needs("whisper_normalizer", "jiwer")
def test_texts_are_compared_in_one_form():
    reference, hypothesis = "Mr. Smith won't pay $3", "mister smith will not pay 3 dollars"
    assert word_errors(reference, hypothesis, text_normalizer("en")) == ErrorCount(0, 6)
    assert word_errors(reference, hypothesis).errors > 3
    assert word_errors("Größe, „JA“!", "größe ja", text_normalizer("de")) == ErrorCount(0, 2)


@pytest.mark.parametrize("language", ["en", "de"])
def test_without_the_normalizer_the_extra_is_named(monkeypatch, language):
    for name in ("whisper_normalizer", "whisper_normalizer.english", "whisper_normalizer.basic"):
        monkeypatch.setitem(sys.modules, name, None)
    with refused(r"whisper-normalizer, .*, is missing; pip install 'ssl-vc\[eval\]'"):
        text_normalizer(language)


@needs("faster_whisper", "whisper_normalizer")
@pytest.mark.skipif(not (JUDGES / "whisper").is_dir(), reason="needs whisper/ in ../judges, or in SSL_VC_JUDGES")
def test_the_real_whisper_recognises_the_same_twice():
    wav = ssl_vc.read(SAMPLE)
    first, again = load_recogniser(f"whisper:{JUDGES / 'whisper'}", [], offline=True)([wav, wav])
    assert first == again and "the north wind and the sun" in first.lower()


@needs(*mos_module.PACKAGES)
def test_distill_mos_rates_noise_and_leaves_no_placeholder(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torchaudio", *mos_module.PACKAGES)]:
        monkeypatch.delitem(sys.modules, name)
    judge = DistillMos()
    assert "torchaudio" not in sys.modules and "distillmos" in sys.modules
    clean = ssl_vc.read(SAMPLE)
    noisy = clean + 0.2 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    assert 1 <= judge(noisy) < 2 < 4 < judge(clean) <= 5
    assert judge(torch.zeros(RATE)) is judge(torch.zeros(0)) is None
    assert judge.description.startswith("DistillMOS ")


@pytest.mark.parametrize("package", mos_module.PACKAGES)
def test_without_distill_mos_the_cure_is_said(monkeypatch, package):
    monkeypatch.setattr(mos_module, "find_spec", lambda name: None if name == package else object())
    with refused("DistillMOS is missing; pip install --no-deps distillmos xls-r-sqa"):
        DistillMos()
