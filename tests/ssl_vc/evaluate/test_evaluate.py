"""An evaluation as a whole: systems make sounds, judges hear them, and what comes of it is told as it is."""

import csv
import io
import json
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

import ssl_vc
from ssl_vc.copysynth import Routes
from ssl_vc.evaluate.judging import Judges
from ssl_vc.evaluate.outputs import FILES, as_csv, as_json, as_markdown, as_text, write_results
from ssl_vc.evaluate.pairs import Pair, Target, Task
from ssl_vc.evaluate.people import People
from ssl_vc.evaluate.quality import Opinion
from ssl_vc.evaluate.run import evaluate
from ssl_vc.evaluate.systems import CopySynthesis, Files, Natural, Sound, System
from ssl_vc.evaluate.words import normalized
from vocoder.pitch import track_pitch

PITCH = {"anna": 220.0, "bert": 110.0, "carl": 85.0}


class Ear:
    """Stands for a recogniser: hears two words of three."""

    description, versions, normalize = "an ear", {"ear": "1"}, staticmethod(normalized)

    def __call__(self, wavs):
        return ("the cat" for _ in wavs)


class Eye:
    """Stands for a verifier: knows a speaker by the pitch."""

    description, versions = "an eye", {"eye": "2"}

    def __call__(self, wav):
        pitch = track_pitch(wav)
        place = (pitch[pitch > 0].median() / 100).log2()
        return normalize(torch.stack([torch.ones(()), place]), dim=0)


class Impostor(System):
    """Plays what the target said elsewhere; fails where it is told to."""

    name, what, converts = "impostor", "the target's own recordings", True

    def __init__(self, fails=()):
        self.heard, self.fails = {}, fails

    def hear(self, target, references):
        self.heard[target] = references

    def __call__(self, pair):
        if pair.name in self.fails:
            raise RuntimeError("it broke")
        return Sound(self.heard[pair.target][0], 16_000)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, speech):
    folder = tmp_path_factory.mktemp("recorded")
    for speaker, pitch in PITCH.items():
        for text in range(3):
            ssl_vc.write(folder / f"{speaker}{text}.wav", speech(1.5, pitch=pitch * 1.02**text, text=text), 16_000)
    return folder


@pytest.fixture
def task(recorded):
    def make(**more):
        pairs = [
            Pair(f"p{number}", recorded / f"{speaker}{number}.wav", target, "the cat sat", speaker)
            for number, (speaker, target) in enumerate([("anna", "bert"), ("anna", "carl"), ("bert", "anna")])
        ]
        targets = {
            name: Target(name, (recorded / f"{name}0.wav",), tuple(recorded / f"{name}{text}.wav" for text in (1, 2)))
            for name in PITCH
        }
        given = {"pairs": tuple(pairs), "targets": targets, "reference_seconds": (0.5, None), **more}
        return Task("made up", **given)

    return make


@pytest.fixture
def judged(task, tmp_path):
    def run(*systems, **more):
        made = task(**more)
        return evaluate(made, systems, Judges(Ear(), People(made, Eye())), tmp_path)

    return run


def row(results, system, seconds=None):
    return next(row for row in results.summaries if (row.system, row.reference_seconds) == (system, seconds))


def test_truths(judged):
    results = judged(Natural(), Impostor())
    assert [(row.system, row.reference_seconds) for row in results.summaries] == [
        ("natural source", None),
        ("natural target", None),
        ("impostor", 0.5),
        ("impostor", None),
    ]
    natural, target, impostor = row(results, "natural source"), row(results, "natural target"), row(results, "impostor")
    for each in (natural, impostor):
        assert each.values["wer"].value == pytest.approx(100 / 3)
        assert each.values["cer"].value == pytest.approx(100 * 4 / 11)
    assert natural.values["nearer"].value == 0 and impostor.values["nearer"].value == 100
    assert natural.values["similarity"].value < impostor.values["similarity"].value
    assert impostor.values["similarity"].value == pytest.approx(target.values["similarity"].value, abs=0.01)
    assert natural.values["source_similarity"].value > 0.99
    assert natural.values.get("eer") is None and impostor.values["eer"].value > 30
    words, voices = results.judges
    assert words == "words: an ear" and voices.startswith("voices: an eye; on the targets' natural clips: EER")


def test_naturalness_is_judged_of_all_sounds(task, tmp_path):
    class Nose:
        description = "a nose"

        def __call__(self, wav):
            return Opinion(3.0, 4.0, 2.0) if len(wav) > 9000 else None

    made = task(reference_seconds=(0.5, None))
    judges = Judges(None, People(made, Eye()), Nose())
    results = evaluate(made, [Natural(), Impostor()], judges, tmp_path)
    for system in ("natural source", "natural target", "impostor"):
        assert row(results, system).values["dnsmos_background"].value == 4
    assert row(results, "impostor", 0.5).values["dnsmos_overall"] is None  # half a second
    assert "naturalness: a nose" in results.judges


def test_every_length_of_reference_is_a_row(judged, task):
    system = Impostor()
    results = judged(system, reference_seconds=(0.5, 1.0))
    assert [row.reference_seconds for row in results.summaries if row.converts] == [0.5, 1.0]
    assert len(results.outcomes) == 6
    assert sum(map(len, system.heard["anna"])) == 16_000


def test_the_same_task_gives_the_same_figures(task, recorded, tmp_path):
    texts = []
    for run in ("one", "two"):
        made = task()
        systems = [Natural(), CopySynthesis("mel/griffin-lim", Routes()), Impostor()]
        results = evaluate(made, systems, Judges(Ear(), People(made, Eye())), tmp_path / run)
        facts = json.loads(as_json(results))
        for each in facts["systems"]:
            each["values"].pop("real_time_factor", None), each.pop("peak_memory_mb")
        for each in facts["pairs"]:
            each["values"].pop("real_time_factor", None), each["values"].pop("taken", None)
        texts.append(facts)
    assert texts[0] == texts[1]
    names = ["natural source", "natural target", "mel/griffin-lim", "impostor", "impostor"]
    assert [each["system"] for each in texts[0]["systems"]] == names
    copy = texts[0]["systems"][2]["values"]
    assert copy["f0_correlation"]["value"] > 0.9 and copy["copy_mcd_db"]["value"] < 6 and "mcd_db" not in copy
    assert copy["nearer"]["value"] == 0 and "eer" not in copy


def test_a_pair_that_fails_is_a_row(judged):
    results = judged(Impostor(fails=["p0"]), reference_seconds=(None,))
    summary = row(results, "impostor")
    assert (summary.pairs, summary.failed) == (3, 1)
    failed, good, _ = results.outcomes
    assert failed.error == "RuntimeError: it broke" and not failed.file and good.values["similarity"]
    assert "1 of 3 pairs failed in impostor; its figures leave them out." in results.notes


def test_a_target_with_too_little_fails_alone(judged, task, recorded):
    targets = dict(task().targets)
    targets["carl"] = Target("carl", (recorded / "missing.wav",), targets["carl"].trials)
    results = judged(Impostor(), reference_seconds=(None,), targets=targets)
    assert [bool(outcome.error) for outcome in results.outcomes] == [False, True, False]
    assert "missing.wav" in results.outcomes[1].error


def test_texts_that_are_not_known_are_not_judged(judged, task):
    pairs = [Pair(f"{n}", pair.source, pair.target, "" if n else pair.text) for n, pair in enumerate(task().pairs)]
    results = judged(Natural(), pairs=tuple(pairs))
    assert row(results, "natural source").values["wer"].count == 1
    assert [outcome.heard for outcome in results.outcomes] == ["the cat", None, None]
    assert "2 of 3 pairs have no text, so nobody counts their words." in results.notes


def test_clips_that_no_judge_can_hear_are_left_out(judged, task, recorded, tmp_path, caplog):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    targets = dict(task().targets)
    for name, also in (("carl", ()), ("bert", targets["bert"].trials)):
        targets[name] = Target(name, targets[name].references, (tmp_path / "broken.wav", *also))
    results = judged(Impostor(), reference_seconds=(None,), targets=targets)
    assert [bool(outcome.error) for outcome in results.outcomes] == [False, True, False]
    assert "its voice could not be judged: the verifier could hear no clip of carl" in results.outcomes[1].error
    assert results.outcomes[1].values["wer"] and row(results, "impostor").failed == 0  # the other judges heard it
    assert row(results, "impostor").values["similarity"].count == 2
    assert caplog.text.count("broken.wav: ") == 2


def test_sounds_made_elsewhere(judged, task, recorded, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    for name, other in (("p0", "bert1"), ("p1", "carl1")):
        (folder / f"{name}.wav").write_bytes((recorded / f"{other}.wav").read_bytes())
    results = judged(Files("theirs", folder))
    assert [bool(outcome.error) for outcome in results.outcomes] == [False, False, True]
    assert "no sound called p2" in results.outcomes[2].error
    assert row(results, "theirs").values["nearer"].value == 100
    with pytest.raises(ValueError, match="no folder"):
        Files("theirs", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="the column `converted`"):
        Files("listed")(task().pairs[0])


def test_a_source_that_cannot_be_read_fails_alone(judged, task, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    first, second, _ = task().pairs
    results = judged(Natural(), Impostor(), pairs=(first, replace(second, source=tmp_path / "broken.wav")))
    assert [outcome.failed for outcome in results.outcomes[:2]] == [False, True]
    assert row(results, "natural source").failed == 1


def test_silence_is_heard_as_nothing(judged, task, tmp_path):
    class Deaf(Ear):
        def __call__(self, wavs):
            return ("the cat sat" if wav.abs().max() > 0 else "" for wav in wavs)

    (tmp_path / "made").mkdir()
    ssl_vc.write(tmp_path / "made" / "p0.wav", torch.zeros(8000), 16_000)
    made = task()
    results = evaluate(made, [Files("theirs", tmp_path / "made")], Judges(Deaf(), People(made, Eye())), tmp_path)
    summary = row(results, "theirs")
    assert (summary.failed, summary.values["wer"].value, summary.values["wer"].count) == (2, 100, 1)
    assert "real_time_factor" not in summary.values


@pytest.mark.parametrize(
    "names", [("impostor", "Impostor"), ("impostor", ""), ("natural target", "impostor"), ("a/b", "a-b")]
)
def test_names_that_cannot_be_told_apart_are_refused(judged, names):
    systems = [Impostor() for _ in names]
    for system, name in zip(systems, names, strict=True):
        system.name = name
    with pytest.raises(ValueError, match="a system cannot be called"):
        judged(*systems)


def test_what_judges_share_with_voices_is_said(judged, task):
    targets = {name: Target(name, target.references) for name, target in task().targets.items()}
    assert not any("without trials" in note for note in judged(Natural()).notes)
    assert any("Targets without trials" in note for note in judged(Natural(), targets=targets).notes)


def test_a_source_is_nobody_who_is_converted_to(task, recorded):
    targets = dict(task().targets)
    source = task().pairs[0].source
    for wrong in (Target("bert", (source,)), Target("bert", targets["bert"].references, (source,))):
        with pytest.raises(ValueError, match="the source of p0 is a recording of bert itself"):
            task(targets=targets | {"bert": wrong})
    with pytest.raises(ValueError, match="a reference and a trial of bert"):
        task(targets=targets | {"bert": Target("bert", targets["bert"].trials, targets["bert"].trials)})


def test_files(judged, task, tmp_path):
    results = judged(Natural(), Impostor(fails=["p1"]), reference_seconds=(None,))
    write_results(results, task(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "sounds"}
    lines = list(csv.DictReader(io.StringIO((tmp_path / "pairs.csv").read_text())))
    assert len(lines) == 6 and lines[3]["heard"] == "the cat" and float(lines[3]["wer"]) == pytest.approx(33.3333)
    assert lines[4]["error"] == "RuntimeError: it broke"
    facts = json.loads((tmp_path / "results.json").read_text())
    low, value, high = (facts["systems"][0]["values"]["similarity"][name] for name in ("low", "value", "high"))
    assert low <= value <= high and low < high
    table = (tmp_path / "table.md").read_text()
    assert "| impostor | all | 33.3 (33.3..33.3)" in table and "- words: an ear" in table
    assert "words: an ear" in as_text(results) and "natural target" in as_text(results)
    assert as_csv(results).count("\n") == 7 and "RuntimeError" in as_json(results)
    assert "words: an ear" in (tmp_path / "index.html").read_text() and "| system |" in as_markdown(results)
