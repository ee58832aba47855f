"""Kokoro takes its timbre from one voice and its prosody from another; text becomes its phones by what is installed."""

import shutil
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ssl_vc.parallel import g2p
from ssl_vc.parallel.g2p import load_g2p
from ssl_vc.parallel.kokoro import VOCABULARY, Kokoro, find_kokoro, mixture_name, parse_mixture

MISSING = find_spec("onnx") is None or find_spec("onnxruntime") is None
needs_onnx = pytest.mark.skipif(MISSING, reason="onnx or onnxruntime is not installed")
ROWS = 6
VOICES = {"af_ada": (0.1, 0.2), "am_bob": (0.3, 0.5), "bf_cat": (-0.2, -0.4)}  # timbre, prosody


def network(path, inputs=("tokens", "style", "speed"), first="INT64"):
    """Write a network that repeats its inputs: the phones / 1000, the style, and the speed / 10, as a waveform."""
    from onnx import TensorProto, helper, save

    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {first: [1, "n"], "FLOAT": [1, 256], "float": [1]}
    given = [
        helper.make_tensor_value_info(name, getattr(TensorProto, kind.upper()), shape)
        for name, (kind, shape) in zip(inputs, kinds.items(), strict=False)
    ]
    numbers = [helper.make_tensor(f"by{n}", TensorProto.FLOAT, [1, 1], [1 / n]) for n in (1000, 10)]
    nodes = [
        helper.make_node("Cast", [inputs[0]], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "by1000"], ["small"]),
        helper.make_node("Mul", [inputs[2], "by10"], ["pace"]),
        helper.make_node("Concat", ["small", inputs[1], "pace"], ["waveform"], axis=1),
    ]
    waveform = helper.make_tensor_value_info("waveform", TensorProto.FLOAT, [1, "samples"])
    graph = helper.make_graph(nodes, "echo", given, [waveform], numbers)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def folder_of(folder, model="model.onnx", **options):
    """Make a Kokoro folder; in row n of a voice, for n phones, all numbers are n / 1000 higher."""
    network(folder / model, **options)
    (folder / "voices").mkdir()
    for name, halves in VOICES.items():
        style = np.repeat(np.float32(halves), 128) + np.arange(ROWS)[:, None] / 1000
        style.astype(np.float32).tofile(folder / "voices" / f"{name}.bin")
    (folder / "voices" / "zf_other.bin").write_bytes(b"another language")
    return folder


@pytest.fixture
def kokoro(tmp_path):
    return folder_of(tmp_path / "kokoro")


def heard(sound):
    """Recover the inputs of the network: phones, timbre, prosody, speed."""
    phones, timbre, prosody, speed = sound.split([len(sound) - 257, 128, 128, 1])
    return (phones * 1000).round().int().tolist(), timbre, prosody, round(float(speed) * 10, 4)


@needs_onnx
@pytest.mark.parametrize(
    ("model", "names"),
    [("model.onnx", ("tokens", "style", "speed")), ("onnx/model.onnx", ("input_ids", "style", "speed"))],
)
def test_timbre_is_of_one_voice_and_prosody_of_another(tmp_path, model, names):
    kokoro = Kokoro(folder_of(tmp_path / "kokoro", model, inputs=names))
    assert kokoro.voices == list(VOICES)
    sound = kokoro.synthesize("ab", {"am_bob": 1}, {"af_ada": 1}, 0.9)
    phones, timbre, prosody, speed = heard(sound)
    assert phones == [0, VOCABULARY["a"], VOCABULARY["b"], 0] == [0, 43, 44, 0] and speed == 0.9
    assert timbre.tolist() == pytest.approx([0.302] * 128) and prosody.tolist() == pytest.approx([0.202] * 128)
    other = kokoro.synthesize("ab", {"bf_cat": 1}, {"af_ada": 1}, 0.9)
    assert len(other) == len(sound) and not torch.equal(other, sound)


@needs_onnx
def test_a_mixture_is_a_weighted_mean(kokoro):
    _, timbre, prosody, _ = heard(Kokoro(kokoro).synthesize("a", {"af_ada": 3, "am_bob": 1}, {"bf_cat": 0.5}))
    assert float(timbre[0]) == pytest.approx(0.151) and float(prosody[0]) == pytest.approx(-0.399)
    mixture = {"af_ada": 0.25, "am_bob": 0.75}
    assert mixture_name(mixture) == "af_ada:0.25+am_bob:0.75" and parse_mixture(mixture_name(mixture)) == mixture
    assert parse_mixture(mixture_name({"af_ada": 1.0})) == {"af_ada": 1}


@needs_onnx
def test_phones(kokoro):
    model = Kokoro(kokoro)
    assert heard(model.synthesize("a日b\u200b", {"af_ada": 1}, {"af_ada": 1}))[0] == [0, 43, 44, 0]
    assert float(heard(model.synthesize("a" * 50, {"af_ada": 1}, {"af_ada": 1}))[1][0]) == pytest.approx(0.105)
    for phones, message in (
        ("日", "'日' is 0 phones; Kokoro synthesises 1 to 509"),
        ("a" * 510, r"a\.\.\.' is 510 phones"),
    ):
        with pytest.raises(ValueError, match=message):
            model.synthesize(phones, {"af_ada": 1}, {"af_ada": 1})
    with pytest.raises(ValueError, match="there is no voice 'eve'; possible are af_ada, am_bob, bf_cat"):
        model.synthesize("a", {"eve": 1}, {"af_ada": 1})


def spoil(folder, what):
    if what == "model":
        (folder / "model.onnx").unlink()
    elif what == "voices":
        for file in (folder / "voices").glob("?[fm]_[abc]*"):
            file.unlink()
    elif what == "short":
        (folder / "voices" / "am_bob.bin").write_bytes(bytes(1500))
    elif what == "nan":
        np.full(256, np.nan, np.float32).tofile(folder / "voices" / "am_bob.bin")
    elif what == "damaged":
        (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-40])
    else:
        network(folder / "model.onnx", first="DOUBLE")


@needs_onnx
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("model", "has no model.onnx; use a Kokoro folder, such as the hub's onnx-community/Kokoro"),
        ("voices", r"has no voices/\*.bin; use a Kokoro folder"),
        ("short", r"am_bob.bin is no Kokoro voice: its size is no multiple of 256 float32"),
        ("nan", r"am_bob.bin is no Kokoro voice: it holds numbers that are NaN"),
        ("damaged", "model.onnx is no ONNX model, or is damaged; fetch it again"),
        ("other", r"no Kokoro model: its inputs are tokens\(double\), style\(float\), speed\(float\), not phones"),
    ],
)
def test_a_wrong_folder_is_refused(kokoro, what, message):
    spoil(kokoro, what)
    with pytest.raises(ValueError, match=message):
        Kokoro(kokoro)


@needs_onnx
def test_without_the_package_the_cure_is_said(kokoro, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="Kokoro needs onnxruntime, which is missing; pip install"):
        Kokoro(kokoro)


def test_the_folder_is_found_or_its_hub_id_refused(tmp_path):
    assert find_kokoro(str(tmp_path)) == tmp_path
    with pytest.raises(ValueError, match=r"nobody/nothing is neither a folder nor in the cache"):
        find_kokoro("nobody/nothing", offline=True)
    with pytest.raises(ValueError, match="there is no folder 'nothing'; use a Kokoro folder or a hub id"):
        find_kokoro("nothing")


@pytest.fixture
def installed(monkeypatch):
    """Have these readers installed, and no others."""

    def only(*names):
        hibari = SimpleNamespace(Hibari=lambda: SimpleNamespace(phonemize=lambda text: ("h", text)))
        misaki = SimpleNamespace(G2P=lambda: lambda text: ("m" + text, "tokens"))
        monkeypatch.setitem(sys.modules, "hibari", hibari if "hibari" in names else None)
        monkeypatch.setitem(sys.modules, "misaki.en", misaki if "misaki" in names else None)
        monkeypatch.setattr(g2p, "version", {"hibari-tts": "1", "misaki": "2"}.get)
        monkeypatch.setattr(shutil, "which", lambda name: name if "espeak" in names else None)

    return only


def test_the_first_reader_installed_is_taken(installed):
    installed("hibari", "misaki", "espeak")
    assert load_g2p().name == "hibari-tts 1" and load_g2p().phonemize("a") == ["h", "a"]
    assert load_g2p("misaki").name == "misaki 2" and load_g2p("misaki").phonemize("a") == ["ma"]
    installed("misaki", "espeak")
    assert load_g2p().name == "misaki 2"
    installed("espeak")
    assert load_g2p().name == "espeak-ng"


def test_a_reader_that_is_missing_is_refused(installed):
    installed("hibari")
    cure = "pip install --no-deps hibari-tts, pip install 'misaki.en.', or install espeak-ng"
    for name in ("misaki", "espeak"):
        with pytest.raises(ValueError, match=f"the g2p '{name}' is not installed; {cure}"):
            load_g2p(name)
    with pytest.raises(ValueError, match="there is no g2p 'eve'; possible are hibari, misaki, espeak"):
        load_g2p("eve")
    installed()
    with pytest.raises(ValueError, match=f"no g2p is installed; {cure}"):
        load_g2p()


@pytest.fixture
def spoken(monkeypatch):
    """Read text by a stand-in for eSpeak, whose IPA of a phrase is the phrase."""

    def read(text):
        monkeypatch.setattr(g2p, "Espeak", lambda: SimpleNamespace(ipa=list))
        return load_g2p("espeak").phonemize(text)

    return read


def test_espeak_is_spelled_as_kokoro_spells(spoken):
    assert spoken("tʃˈɜːtʃ dʒˈʌdʒ") == ["ʧˈɜɹʧ ʤˈʌʤ"]
    assert spoken("fˈeɪs ɡˈoʊ aɪ nˈaʊ tʃˈɔɪs") == ["fˈAs ɡˈO I nˈW ʧˈYs"]
    assert spoken("bˈɛɾɚ hˈɜːɹi nˈoːɹθ bˈʌʔn̩ gɹˈiːn") == ["bˈɛTəɹ hˈɜɹi nˈɔɹθ bˈʌtᵊn ɡɹˈin"]
    assert set("".join(g2p.ESPEAK_TO_KOKORO.values())) <= set(VOCABULARY)


def test_punctuation_is_kept_but_for_what_no_phrase_holds(spoken):
    assert spoken("wˈɛl, jˈɛs; nˈaʊ?!  sˈiː...") == ["wˈɛl, jˈɛs; nˈW?! sˈi..."]
    assert spoken('hiː sˈɛd "nˈɑt." ɪf—sˈiː') == ['hi sˈɛd "nˈɑt. " ɪf— sˈi']
    assert spoken("wˈeɪt...sˈiː") == ["wˈAt... sˈi"]
    assert spoken("3.5, 1,000 at 5:30: “A”.") == ["3.5, 1,000 at 5:30: “A”."]
    assert spoken('... " ') == [""]
