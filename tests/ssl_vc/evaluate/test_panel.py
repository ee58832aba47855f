"""Who judges: what a folder of judges holds, what a task names, and what readers of the figures are told of it."""

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
from ssl_vc.evaluate import panel as module
from ssl_vc.evaluate import whisper as whisper_module
from ssl_vc.evaluate.judging import Judges
from ssl_vc.evaluate.pairs import Pair, Target, Task
from ssl_vc.evaluate.panel import FLATTERS, Found, find_judges, load_panel
from ssl_vc.evaluate.people import People
from ssl_vc.evaluate.quality import Opinion
from ssl_vc.evaluate.run import evaluate
from ssl_vc.evaluate.systems import Natural, Sound, System
from ssl_vc.evaluate.words import normalized
from vocoder.pitch import track_pitch

HOLDS = {"whisper": Path.mkdir, "campplus.onnx": Path.touch, "sig_bak_ovr.onnx": Path.touch}


class Ear:
    """Stands for a recogniser."""

    description, versions, normalize = "an ear", {"ear": "1"}, staticmethod(normalized)

    def __call__(self, wavs):
        return ("the cat" for _ in wavs)


class Eye:
    """Stands for a verifier: knows a speaker by the pitch."""

    description, versions = "an eye", {"eye": "2"}

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
def task(recorded):
    """Anna says it as Bert, who says the same at the same time in another recording."""
    pairs = tuple(
        Pair(f"p{text}", recorded / f"anna{text}.wav", "bert", "the cat", "anna", recorded / f"bert{text}.wav")
        for text in (1, 2)
    )
    return Task("made up", pairs, {"bert": Target("bert", (recorded / "bert0.wav",))})


@pytest.fixture
def called(monkeypatch):
    """Whom `load_panel` calls, by name; all of them are stand-ins."""
    names = {}

    def call(kind, judge):
        def load(name="", *_, **options):
            names[kind] = name, options
            return judge()

        return load

    monkeypatch.setattr(module, "load_recogniser", call("recogniser", Ear))
    monkeypatch.setattr(module, "load_verifier", call("verifier", Eye))
    monkeypatch.setattr(module, "Dnsmos", call("dnsmos", object))
    monkeypatch.setattr(module, "DistillMos", call("mos", object))
    monkeypatch.setattr(module, "has_distill_mos", lambda: False)
    return names


@pytest.mark.parametrize("held", [some for number in (1, 2, 3) for some in combinations(HOLDS, number)])
def test_a_folder_holds_any_of_them(tmp_path, held):
    for name in held:
        HOLDS[name](tmp_path / name)
    whisper, campplus, dnsmos = (tmp_path / name if name in held else None for name in HOLDS)
    assert find_judges(tmp_path) == Found(whisper and f"whisper:{whisper}", campplus and str(campplus), dnsmos)


def test_a_folder_of_other_verifiers(tmp_path, task, called):
    (tmp_path / "ecapa.onnx").touch()
    assert find_judges(tmp_path) == Found(None, str(tmp_path / "ecapa.onnx"), None)
    (tmp_path / "resnet.onnx").touch()
    refused = r"holds 2 verifiers; choose one by --verifier, such as .*ecapa\.onnx\.$"
    with pytest.raises(ValueError, match=refused):
        find_judges(tmp_path)
    with pytest.raises(ValueError, match=refused):
        load_panel(task, tmp_path)
    load_panel(replace(task, verifier="mine.onnx"), tmp_path)  # which is the cure
    assert called["verifier"][0] == "mine.onnx"
    (tmp_path / "campplus.onnx").touch()
    assert find_judges(tmp_path).verifier == str(tmp_path / "campplus.onnx")


def test_a_folder_that_is_empty_or_missing(tmp_path, task):
    (tmp_path / "whisper").touch()
    with pytest.raises(ValueError, match=r"holds no judge; it may hold whisper/, campplus\.onnx and sig_bak_ovr\.onnx"):
        find_judges(tmp_path)
    for load in (find_judges, lambda folder: load_panel(task, folder)):
        with pytest.raises(ValueError, match=r"^there is no folder '.*nowhere' of judges\.$"):
            load(tmp_path / "nowhere")


def test_what_a_task_leaves_empty_comes_from_the_folder(tmp_path, task, called, monkeypatch):
    for name, make in HOLDS.items():
        make(tmp_path / name)
    panel = load_panel(replace(task, language="de"), tmp_path, offline=True)
    assert (panel.task.recogniser, panel.task.verifier) == (f"whisper:{tmp_path}/whisper", f"{tmp_path}/campplus.onnx")
    assert called["recogniser"] == (panel.task.recogniser, {"language": "de", "device": "auto", "offline": True})
    assert called["verifier"] == (panel.task.verifier, {"device": "auto", "offline": True})
    assert called["dnsmos"][0] == tmp_path / "sig_bak_ovr.onnx" and panel.judges.dnsmos
    assert "mos" not in called and not panel.notes
    assert panel.task.versions == {"ear": "1", "eye": "2"}
    monkeypatch.setattr(module, "has_distill_mos", lambda: True)
    other = load_panel(replace(task, recogniser="a/b", verifier="c/d"), tmp_path, dnsmos=Path("mine.onnx"))
    assert (
        (other.task.recogniser, other.task.verifier)
        == (called["recogniser"][0], called["verifier"][0])
        == ("a/b", "c/d")
    )
    assert called["dnsmos"][0] == Path("mine.onnx") and other.judges.distill_mos


def test_without_a_folder_those_judge_who_work_everywhere(task, called, monkeypatch):
    monkeypatch.setattr(module, "has_distill_mos", lambda: True)
    panel = load_panel(task)
    assert (panel.task.recogniser, panel.task.verifier) == ("pocketsphinx", "resemblyzer")
    assert set(called) == {"recogniser", "verifier"} and panel.judges.dnsmos is panel.judges.distill_mos is None
    assert load_panel(task, distill_mos=True).judges.distill_mos


def test_none_calls_nobody(task, called):
    panel = load_panel(replace(task, recogniser="none", verifier="none"))
    assert panel.judges == Judges() and not called and not panel.notes and not panel.task.versions
    silent = tuple(replace(pair, text="") for pair in task.pairs)
    assert load_panel(replace(task, pairs=silent, verifier="none")).judges == Judges() and not called


@pytest.mark.parametrize(
    ("recogniser", "verifier", "flatters"),
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
def test_closed_vocabularies_and_forgiving_verifiers_are_said_to_flatter(task, called, recogniser, verifier, flatters):
    named = replace(task, recogniser=recogniser, verifier=verifier)
    assert load_panel(named).notes == [FLATTERS] * flatters
    unsaid = tuple(replace(pair, text="") for pair in task.pairs)  # nobody is asked for words
    assert load_panel(replace(named, pairs=unsaid)).notes == [FLATTERS] * (verifier in ("", "resemblyzer"))


def test_other_versions_are_noted(task, called):
    named = {"recogniser": "a/b", "verifier": "c/d"}
    assert load_panel(replace(task, **named, versions={"ear": "1", "nose": "7"})).notes == []
    (note,) = load_panel(replace(task, **named, versions={"ear": "0", "eye": "2"})).notes
    assert note == "The protocol was made with ear 0; 1 may give other figures."


@pytest.fixture
def judges(tmp_path, monkeypatch):
    """A folder of judges whose Whisper and verifier are stand-ins."""
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
    monkeypatch.setattr(module, "load_verifier", lambda name, **_: Eye())
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
    said, whisper = yaml.safe_load(protocol.read_text()), sha256(b"weights").hexdigest()[:12]
    assert said["versions"] == {"whisper": whisper, "faster-whisper": "9.8", "eye": "2"} and said["language"] == "de"
    assert (said["recogniser"], said["verifier"]) == (f"whisper:{judges}/whisper", f"{judges}/campplus.onnx")
    assert "flatter" not in (tmp_path / "one" / "table.md").read_text()
    (judges / "whisper" / "model.bin").write_text("other weights")
    other = sha256(b"other weights").hexdigest()[:12]
    assert run("evaluate", protocol, *made, tmp_path / "two")[0] == 0  # it names its judges
    note = f"The protocol was made with whisper {whisper}; {other} may give other figures."
    assert note in (tmp_path / "two" / "table.md").read_text()
    assert yaml.safe_load((tmp_path / "two" / "protocol.yaml").read_text())["versions"]["whisper"] == other
    monkeypatch.setenv("SSL_VC_JUDGES", str(tmp_path / "nowhere"))
    status, _, error = run("evaluate", protocol, *made, tmp_path / "three")
    assert status == 1 and "there is no folder" in error and "nowhere' of judges" in error


class Plays(System):
    """Plays what it is told to."""

    def __init__(self, name, play, **kind):
        self.name, self.what, self.play = name, "a player", play
        vars(self).update(kind)

    def __call__(self, pair):
        return Sound(self.play(pair), 16_000)


def values_of(results, system):
    return next(row.values for row in results.summaries if row.system == system)


def test_only_copies_have_an_identity(task, tmp_path):
    def high(pair):
        return ssl_vc.read(pair.reading)

    same, other = (
        Plays(name, play, copies=True)
        for name, play in (("same", lambda pair: ssl_vc.read(pair.source)), ("other", high))
    )
    systems = [Natural(), same, other, Plays("conversion", high)]
    results = evaluate(task, systems, Judges(None, People(task, Eye())), tmp_path)
    assert values_of(results, "same")["identity"].value == pytest.approx(1, abs=1e-4)
    assert values_of(results, "other")["identity"].value < 0.9
    assert values_of(results, "natural source")["identity"] is values_of(results, "conversion")["identity"] is None


def test_a_clip_that_has_no_score_does_not_take_it_from_the_others(task, recorded, tmp_path):
    trials = recorded / "bert1.wav", recorded / "bert2.wav"

    def nose(wav):
        return None if torch.equal(wav, ssl_vc.read(trials[0])) else Opinion(3.0, 4.0, 2.0)

    task = replace(task, targets={"bert": Target("bert", (recorded / "bert0.wav",), trials)})
    nose.description = "a nose"
    results = evaluate(task, [Natural()], Judges(None, People(task, Eye()), nose), tmp_path)
    assert values_of(results, "natural target")["dnsmos_signal"].value == 3


def test_parallel_speech_is_the_truth(task, tmp_path, speech):
    systems = [
        Plays("truth", lambda pair: ssl_vc.read(pair.reading)),
        Plays("quiet", lambda pair: 0.5 * ssl_vc.read(pair.reading)),
        Plays("higher", lambda pair: speech(1.5, pitch=110 * 2 ** (2 / 12), text=int(pair.name[1:]))),
        Plays("late", lambda pair: torch.cat([torch.zeros(1600), ssl_vc.read(pair.reading)])),
    ]
    results = evaluate(replace(task, parallel=True), [Natural(), *systems], Judges(), tmp_path)
    truth, quiet, higher, late = (values_of(results, system.name) for system in systems)
    for name in ("true_mcd_db", "true_mel", "true_f0_cents"):
        assert truth[name].value == pytest.approx(0, abs=0.02) and truth[name].count == 2
        assert values_of(results, "natural source")[name] is None
    assert quiet["true_mel"].value < 0.1  # at one loudness
    assert higher["true_f0_cents"].value == pytest.approx(200, abs=20)
    assert higher["true_mcd_db"].value > 0.5 and higher["true_mel"].value > 0.1
    assert late["true_mcd_db"].value > 3 and late["mcd_db"].value < 1  # nothing is aligned
    plain = evaluate(task, systems, Judges(), tmp_path / "plain")
    assert values_of(plain, "higher")["true_mcd_db"] is None and values_of(plain, "higher")["mcd_db"]
