"""Which judges are loaded, from a folder or by name, and the caveats that go with them."""

import json
import sys
from dataclasses import replace
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import yaml
from torch.nn.functional import normalize

import ssl_vc
from ssl_vc.evaluate import judges as module
from ssl_vc.evaluate import whisper as whisper_module
from ssl_vc.evaluate.judges import LENIENT_NOTE, JudgeFiles, find_judges, load_judges
from ssl_vc.evaluate.pairs import Pair, Target, TestSet
from ssl_vc.evaluate.quality import DnsmosScores
from ssl_vc.evaluate.run import evaluate
from ssl_vc.evaluate.scoring import Judges
from ssl_vc.evaluate.speaker_references import SpeakerReferences
from ssl_vc.evaluate.systems import Audio, NaturalSource, System
from ssl_vc.evaluate.text_errors import normalize_text
from vocoder.pitch import track_pitch

HOLDS = {"whisper": Path.mkdir, "campplus.onnx": Path.touch, "sig_bak_ovr.onnx": Path.touch}


class FakeRecogniser:
    """Recognises the same words everywhere."""

    description, versions, normalize = "a recogniser", {"recogniser": "1"}, staticmethod(normalize_text)

    def __call__(self, wavs):
        return ("the cat" for _ in wavs)


class FakeVerifier:
    """Embeds a speaker by the median F0."""

    description, versions = "a verifier", {"verifier": "2"}

    def __call__(self, wav):
        pitch = track_pitch(wav)
        return normalize(torch.stack([torch.ones(()), (pitch[pitch > 0].median() / 100).log2()]), dim=0)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, speech):
    folder = tmp_path_factory.mktemp("recorded")
    for speaker, pitch in (("anna", 210.0), ("bert", 110.0)):
        for text in range(3):
            ssl_vc.write(folder / f"{speaker}{text}.wav", speech(1.5, pitch=pitch, text=text), 16_000)
    rows = [f"{speaker}{text}.wav\t{speaker}\t2.2\tthe cat" for speaker in ("anna", "bert") for text in range(3)]
    (folder / "clips.tsv").write_text("\n".join(["path\tspeaker\tseconds\ttext", *rows]) + "\n")
    return folder


@pytest.fixture
def test_set(recorded):
    """Anna converted to Bert, with Bert's parallel recordings."""
    pairs = tuple(
        Pair(f"p{text}", recorded / f"anna{text}.wav", "bert", "the cat", "anna", recorded / f"bert{text}.wav")
        for text in (1, 2)
    )
    return TestSet(name="made up", pairs=pairs, targets={"bert": Target("bert", (recorded / "bert0.wav",))})


@pytest.fixture
def loaded(monkeypatch):
    """Arguments of the judges that `load_judges` loads, all of them fakes."""
    names = {}

    def call(kind, judge):
        def load(name="", *_, **options):
            names[kind] = name, options
            return judge()

        return load

    monkeypatch.setattr(module, "load_recogniser", call("recogniser", FakeRecogniser))
    monkeypatch.setattr(module, "load_verifier", call("verifier", FakeVerifier))
    monkeypatch.setattr(module, "Dnsmos", call("dnsmos", object))
    monkeypatch.setattr(module, "DistillMos", call("mos", object))
    monkeypatch.setattr(module, "has_distill_mos", lambda: False)
    return names


@pytest.mark.parametrize("held", [some for number in (1, 2, 3) for some in combinations(HOLDS, number)])
def test_a_folder_holds_any_of_them(tmp_path, held):
    for name in held:
        HOLDS[name](tmp_path / name)
    whisper, campplus, dnsmos = (tmp_path / name if name in held else None for name in HOLDS)
    assert find_judges(tmp_path) == JudgeFiles(whisper and f"whisper:{whisper}", campplus and str(campplus), dnsmos)


def test_a_folder_of_other_verifiers(tmp_path, test_set, loaded):
    (tmp_path / "ecapa.onnx").touch()
    assert find_judges(tmp_path) == JudgeFiles(None, str(tmp_path / "ecapa.onnx"), None)
    (tmp_path / "resnet.onnx").touch()
    refused = r"holds 2 verifiers; choose one with --verifier .*ecapa\.onnx\.$"
    with pytest.raises(ValueError, match=refused):
        find_judges(tmp_path)
    with pytest.raises(ValueError, match=refused):
        load_judges(test_set, tmp_path)
    load_judges(replace(test_set, verifier="mine.onnx"), tmp_path)  # which is the cure
    assert loaded["verifier"][0] == "mine.onnx"
    (tmp_path / "campplus.onnx").touch()
    assert find_judges(tmp_path).verifier == str(tmp_path / "campplus.onnx")


def test_a_folder_that_is_empty_or_missing(tmp_path, test_set):
    (tmp_path / "whisper").touch()
    with pytest.raises(ValueError, match=r"holds no judge; possible are whisper/, campplus\.onnx and sig_"):
        find_judges(tmp_path)
    for load in (find_judges, lambda folder: load_judges(test_set, folder)):
        with pytest.raises(ValueError, match=r"^there is no folder '.*nowhere' of judges\.$"):
            load(tmp_path / "nowhere")


def test_unnamed_judges_come_from_the_folder(tmp_path, test_set, loaded, monkeypatch):
    for name, make in HOLDS.items():
        make(tmp_path / name)
    found = load_judges(replace(test_set, language="de"), tmp_path, offline=True)
    assert (found.test_set.recogniser, found.test_set.verifier) == (
        f"whisper:{tmp_path}/whisper",
        f"{tmp_path}/campplus.onnx",
    )
    assert loaded["recogniser"] == (found.test_set.recogniser, {"language": "de", "device": "auto", "offline": True})
    assert loaded["verifier"] == (found.test_set.verifier, {"device": "auto", "offline": True})
    assert loaded["dnsmos"][0] == tmp_path / "sig_bak_ovr.onnx" and found.judges.dnsmos
    assert "mos" not in loaded and not found.notes
    assert found.test_set.versions == {"recogniser": "1", "verifier": "2"}
    monkeypatch.setattr(module, "has_distill_mos", lambda: True)
    other = load_judges(replace(test_set, recogniser="a/b", verifier="c/d"), tmp_path, dnsmos=Path("mine.onnx"))
    assert (
        (other.test_set.recogniser, other.test_set.verifier)
        == (loaded["recogniser"][0], loaded["verifier"][0])
        == ("a/b", "c/d")
    )
    assert loaded["dnsmos"][0] == Path("mine.onnx") and other.judges.distill_mos


def test_fallbacks_without_a_folder(test_set, loaded, monkeypatch):
    monkeypatch.setattr(module, "has_distill_mos", lambda: True)
    found = load_judges(test_set)
    assert (found.test_set.recogniser, found.test_set.verifier) == ("pocketsphinx", "resemblyzer")
    assert set(loaded) == {"recogniser", "verifier"} and found.judges.dnsmos is found.judges.distill_mos is None
    assert load_judges(test_set, distill_mos=True).judges.distill_mos


def test_none_loads_no_judge(test_set, loaded):
    found = load_judges(replace(test_set, recogniser="none", verifier="none"))
    assert found.judges == Judges() and not loaded and not found.notes and not found.test_set.versions
    silent = tuple(replace(pair, text="") for pair in test_set.pairs)
    assert load_judges(replace(test_set, pairs=silent, verifier="none")).judges == Judges() and not loaded


@pytest.mark.parametrize(
    ("recogniser", "verifier", "lenient"),
    [
        ("", "", True),
        ("pocketsphinx", "x.onnx", True),
        ("whisper:base", "resemblyzer", True),
        ("none", "", True),
        ("whisper:base", "x.onnx", False),
        ("pocketsphinx:general", "none", False),
        ("none", "none", False),
    ],
)
def test_lenient_judges_are_noted(test_set, loaded, recogniser, verifier, lenient):
    named = replace(test_set, recogniser=recogniser, verifier=verifier)
    assert load_judges(named).notes == [LENIENT_NOTE] * lenient
    textless = tuple(replace(pair, text="") for pair in test_set.pairs)  # no recogniser is loaded
    assert load_judges(replace(named, pairs=textless)).notes == [LENIENT_NOTE] * (verifier in ("", "resemblyzer"))


def test_other_versions_are_noted(test_set, loaded):
    named = {"recogniser": "a/b", "verifier": "c/d"}
    assert load_judges(replace(test_set, **named, versions={"recogniser": "1", "other": "7"})).notes == []
    (note,) = load_judges(replace(test_set, **named, versions={"recogniser": "0", "verifier": "2"})).notes
    assert note == "The protocol was made with recogniser 0; 1 may give other figures."


@pytest.fixture
def judges(tmp_path, monkeypatch):
    """A folder of judges whose Whisper and verifier are fakes."""
    for file in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / "judges" / "whisper").mkdir(parents=True, exist_ok=True)
        (tmp_path / "judges" / "whisper" / file).write_text("weights")
    (tmp_path / "judges" / "campplus.onnx").touch()

    class WhisperModel:
        supported_languages = ("de",)

        def __init__(self, *_, **__):
            pass

        def transcribe(self, wav, **options):
            return iter([SimpleNamespace(text=" The cat ")]), None

    package = ModuleType("faster_whisper")
    package.WhisperModel = WhisperModel
    monkeypatch.setitem(sys.modules, "faster_whisper", package)
    monkeypatch.setattr(whisper_module, "version", lambda name: "9.8")
    monkeypatch.setattr(whisper_module, "text_normalizer", lambda language: str.lower)
    monkeypatch.setattr(module, "load_verifier", lambda name, **_: FakeVerifier())
    monkeypatch.setattr(module, "has_distill_mos", lambda: False)
    monkeypatch.delenv("SSL_VC_JUDGES", raising=False)
    return tmp_path / "judges"


def test_versions_land_in_the_protocol_of_a_command(run, recorded, judges, tmp_path, monkeypatch):
    chosen = ("--protocol", "knn-vc", "--clips", recorded / "clips.tsv", "--utterances", "1", "--language", "de")
    made = ("--beside", "mel/griffin-lim", "--json", "-o")
    status, text, _ = run("evaluate", *chosen, "--judges", judges, *made, tmp_path / "one")
    natural, _, copy = map(json.loads, text.splitlines())
    assert status == 0 and natural["values"]["wer"]["value"] == 0 and copy["values"]["identity"]["value"] > 0.99
    protocol = tmp_path / "one" / "protocol.yaml"
    written, whisper = yaml.safe_load(protocol.read_text()), sha256(b"weights").hexdigest()[:12]
    assert written["versions"] == {"whisper": whisper, "faster-whisper": "9.8", "verifier": "2"}
    assert written["language"] == "de"
    assert (written["recogniser"], written["verifier"]) == (f"whisper:{judges}/whisper", f"{judges}/campplus.onnx")
    assert "optimistic" not in (tmp_path / "one" / "table.md").read_text()
    (judges / "whisper" / "model.bin").write_text("other weights")
    other = sha256(b"other weights").hexdigest()[:12]
    assert run("evaluate", protocol, *made, tmp_path / "two")[0] == 0  # it names its judges
    note = f"The protocol was made with whisper {whisper}; {other} may give other figures."
    assert note in (tmp_path / "two" / "table.md").read_text()
    assert yaml.safe_load((tmp_path / "two" / "protocol.yaml").read_text())["versions"]["whisper"] == other
    monkeypatch.setenv("SSL_VC_JUDGES", str(tmp_path / "nowhere"))
    status, _, error = run("evaluate", protocol, *made, tmp_path / "three")
    assert status == 1 and "there is no folder" in error and "nowhere' of judges" in error


class FakeSystem(System):
    """Generates audio by a function."""

    def __init__(self, name, play, **kind):
        self.name, self.description, self.play = name, "a fake", play
        vars(self).update(kind)

    def __call__(self, pair):
        return Audio(self.play(pair), 16_000)


def values_of(results, system):
    return next(row.values for row in results.summaries if row.system == system)


def test_only_copies_have_an_identity(test_set, tmp_path):
    def high(pair):
        return ssl_vc.read(pair.reading)

    same, other = (
        FakeSystem(name, play, copies=True)
        for name, play in (("same", lambda pair: ssl_vc.read(pair.source)), ("other", high))
    )
    systems = [NaturalSource(), same, other, FakeSystem("conversion", high)]
    results = evaluate(test_set, systems, Judges(None, SpeakerReferences(test_set, FakeVerifier())), tmp_path)
    assert values_of(results, "same")["identity"].value == pytest.approx(1, abs=1e-4)
    assert values_of(results, "other")["identity"].value < 0.9
    assert values_of(results, "natural source")["identity"] is values_of(results, "conversion")["identity"] is None


def test_a_clip_without_a_score_leaves_the_others_theirs(test_set, recorded, tmp_path):
    trials = recorded / "bert1.wav", recorded / "bert2.wav"

    def dnsmos(wav):
        return None if torch.equal(wav, ssl_vc.read(trials[0])) else DnsmosScores(3.0, 4.0, 2.0)

    test_set = replace(test_set, targets={"bert": Target("bert", (recorded / "bert0.wav",), trials)})
    dnsmos.description = "DNSMOS"
    judges = Judges(None, SpeakerReferences(test_set, FakeVerifier()), dnsmos)
    results = evaluate(test_set, [NaturalSource()], judges, tmp_path)
    assert values_of(results, "natural target")["dnsmos_signal"].value == 3


def test_parallel_speech_is_compared_without_alignment(test_set, tmp_path, speech):
    systems = [
        FakeSystem("truth", lambda pair: ssl_vc.read(pair.reading)),
        FakeSystem("quiet", lambda pair: 0.5 * ssl_vc.read(pair.reading)),
        FakeSystem("higher", lambda pair: speech(1.5, pitch=110 * 2 ** (2 / 12), text=int(pair.name[1:]))),
        FakeSystem("late", lambda pair: torch.cat([torch.zeros(1600), ssl_vc.read(pair.reading)])),
    ]
    results = evaluate(replace(test_set, parallel=True), [NaturalSource(), *systems], Judges(), tmp_path)
    truth, quiet, higher, late = (values_of(results, system.name) for system in systems)
    for name in ("true_mcd_db", "true_mel", "true_f0_cents"):
        assert truth[name].value == pytest.approx(0, abs=0.02) and truth[name].count == 2
        assert values_of(results, "natural source")[name] is None
    assert quiet["true_mel"].value < 0.1  # at one loudness
    assert higher["true_f0_cents"].value == pytest.approx(200, abs=20)
    assert higher["true_mcd_db"].value > 0.5 and higher["true_mel"].value > 0.1
    assert late["true_mcd_db"].value > 3 and late["mcd_db"].value < 1  # nothing is aligned
    plain = evaluate(test_set, systems, Judges(), tmp_path / "plain")
    assert values_of(plain, "higher")["true_mcd_db"] is None and values_of(plain, "higher")["mcd_db"]
