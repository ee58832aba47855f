"""Whole evaluations: systems generate audio, judges score it, and failures stay visible."""

import csv
import io
import json
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

import ssl_vc
from ssl_vc.copysynth import Routes
from ssl_vc.evaluate.outputs import FILES, as_csv, as_json, as_markdown, as_text, write_results
from ssl_vc.evaluate.pairs import Pair, Target, TestSet
from ssl_vc.evaluate.quality import DnsmosScores
from ssl_vc.evaluate.run import evaluate
from ssl_vc.evaluate.scoring import Judges
from ssl_vc.evaluate.speaker_references import SpeakerReferences
from ssl_vc.evaluate.systems import Audio, CopySynthesis, ExternalAudio, NaturalSource, System
from ssl_vc.evaluate.text_errors import normalize_text
from vocoder.pitch import track_pitch

PITCH = {"anna": 220.0, "bert": 110.0, "carl": 85.0}


class FakeRecogniser:
    """Recognises two words of three."""

    description, versions, normalize = "a recogniser", {"recogniser": "1"}, staticmethod(normalize_text)

    def __call__(self, wavs):
        return ("the cat" for _ in wavs)


class FakeVerifier:
    """Embeds a speaker by the median F0."""

    description, versions = "a verifier", {"verifier": "2"}

    def __call__(self, wav):
        pitch = track_pitch(wav)
        place = (pitch[pitch > 0].median() / 100).log2()
        return normalize(torch.stack([torch.ones(()), place]), dim=0)


class Impostor(System):
    """Returns a reference of the target; fails on the named pairs."""

    name, description, converts = "impostor", "the target's own recordings", True

    def __init__(self, fails=()):
        self.references, self.fails = {}, fails

    def enroll(self, target, references):
        self.references[target] = references

    def __call__(self, pair):
        if pair.name in self.fails:
            raise RuntimeError("it broke")
        return Audio(self.references[pair.target][0], 16_000)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, speech):
    folder = tmp_path_factory.mktemp("recorded")
    for speaker, pitch in PITCH.items():
        for text in range(3):
            ssl_vc.write(folder / f"{speaker}{text}.wav", speech(1.5, pitch=pitch * 1.02**text, text=text), 16_000)
    return folder


@pytest.fixture
def test_set(recorded):
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
        return TestSet(name="made up", **given)

    return make


def fake_judges(test_set):
    return Judges(FakeRecogniser(), SpeakerReferences(test_set, FakeVerifier()))


@pytest.fixture
def scored(test_set, tmp_path):
    def run(*systems, **more):
        made = test_set(**more)
        return evaluate(made, systems, fake_judges(made), tmp_path)

    return run


def row(results, system, seconds=None):
    return next(row for row in results.summaries if (row.system, row.reference_seconds) == (system, seconds))


def test_truths(scored):
    results = scored(NaturalSource(), Impostor())
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
    assert words == "words: a recogniser"
    assert voices.startswith("voices: a verifier; on the targets' natural clips: EER")


def test_naturalness_is_scored_for_all_systems(test_set, tmp_path):
    class FakeDnsmos:
        description = "a dnsmos"

        def __call__(self, wav):
            return DnsmosScores(3.0, 4.0, 2.0) if len(wav) > 9000 else None

    made = test_set(reference_seconds=(0.5, None))
    judges = Judges(None, SpeakerReferences(made, FakeVerifier()), FakeDnsmos())
    results = evaluate(made, [NaturalSource(), Impostor()], judges, tmp_path)
    for system in ("natural source", "natural target", "impostor"):
        assert row(results, system).values["dnsmos_background"].value == 4
    assert row(results, "impostor", 0.5).values["dnsmos_overall"] is None  # half a second
    assert "naturalness: a dnsmos" in results.judges


def test_every_length_of_reference_is_a_row(scored, test_set):
    system = Impostor()
    results = scored(system, reference_seconds=(0.5, 1.0))
    assert [row.reference_seconds for row in results.summaries if row.converts] == [0.5, 1.0]
    assert len(results.outcomes) == 6
    assert sum(map(len, system.references["anna"])) == 16_000


def test_equal_test_sets_give_equal_figures(test_set, recorded, tmp_path):
    texts = []
    for run in ("one", "two"):
        made = test_set()
        systems = [NaturalSource(), CopySynthesis("mel/griffin-lim", Routes()), Impostor()]
        results = evaluate(made, systems, fake_judges(made), tmp_path / run)
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


def test_a_pair_that_fails_is_a_row(scored):
    results = scored(Impostor(fails=["p0"]), reference_seconds=(None,))
    summary = row(results, "impostor")
    assert (summary.pairs, summary.failed) == (3, 1)
    failed, good, _ = results.outcomes
    assert failed.error == "RuntimeError: it broke" and not failed.file and good.values["similarity"]
    assert "1 of 3 pairs failed in impostor and are left out of its figures." in results.notes


def test_a_target_that_cannot_be_enrolled_fails_alone(scored, test_set, recorded):
    targets = dict(test_set().targets)
    targets["carl"] = Target("carl", (recorded / "missing.wav",), targets["carl"].trials)
    results = scored(Impostor(), reference_seconds=(None,), targets=targets)
    assert [bool(outcome.error) for outcome in results.outcomes] == [False, True, False]
    assert "missing.wav" in results.outcomes[1].error


def test_unknown_texts_are_not_scored(scored, test_set):
    pairs = [Pair(f"{n}", pair.source, pair.target, "" if n else pair.text) for n, pair in enumerate(test_set().pairs)]
    results = scored(NaturalSource(), pairs=tuple(pairs))
    assert row(results, "natural source").values["wer"].count == 1
    assert [outcome.hypothesis for outcome in results.outcomes] == ["the cat", None, None]
    assert "2 of 3 pairs have no text and are left out of the error rates." in results.notes


def test_unreadable_clips_are_left_out(scored, test_set, recorded, tmp_path, caplog):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    targets = dict(test_set().targets)
    for name, also in (("carl", ()), ("bert", targets["bert"].trials)):
        targets[name] = Target(name, targets[name].references, (tmp_path / "broken.wav", *also))
    results = scored(Impostor(), reference_seconds=(None,), targets=targets)
    assert [bool(outcome.error) for outcome in results.outcomes] == [False, True, False]
    assert "its voice could not be scored: the verifier could embed no clip of carl" in results.outcomes[1].error
    assert results.outcomes[1].values["wer"] and row(results, "impostor").failed == 0  # the other judges scored it
    assert row(results, "impostor").values["similarity"].count == 2
    assert caplog.text.count("broken.wav: ") == 2


def test_external_audio(scored, test_set, recorded, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    for name, other in (("p0", "bert1"), ("p1", "carl1")):
        (folder / f"{name}.wav").write_bytes((recorded / f"{other}.wav").read_bytes())
    results = scored(ExternalAudio("theirs", folder))
    assert [bool(outcome.error) for outcome in results.outcomes] == [False, False, True]
    assert "no audio file named p2" in results.outcomes[2].error
    assert row(results, "theirs").values["nearer"].value == 100
    with pytest.raises(ValueError, match="no folder"):
        ExternalAudio("theirs", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="the column `converted`"):
        ExternalAudio("listed")(test_set().pairs[0])


def test_a_source_that_cannot_be_read_fails_alone(scored, test_set, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    first, second, _ = test_set().pairs
    results = scored(NaturalSource(), Impostor(), pairs=(first, replace(second, source=tmp_path / "broken.wav")))
    assert [outcome.failed for outcome in results.outcomes[:2]] == [False, True]
    assert row(results, "natural source").failed == 1


def test_silence_counts_as_deletions(scored, test_set, tmp_path):
    class SilenceOnly(FakeRecogniser):
        def __call__(self, wavs):
            return ("the cat sat" if wav.abs().max() > 0 else "" for wav in wavs)

    (tmp_path / "made").mkdir()
    ssl_vc.write(tmp_path / "made" / "p0.wav", torch.zeros(8000), 16_000)
    made = test_set()
    results = evaluate(
        made,
        [ExternalAudio("theirs", tmp_path / "made")],
        Judges(SilenceOnly(), SpeakerReferences(made, FakeVerifier())),
        tmp_path,
    )
    summary = row(results, "theirs")
    assert (summary.failed, summary.values["wer"].value, summary.values["wer"].count) == (2, 100, 1)
    assert "real_time_factor" not in summary.values


@pytest.mark.parametrize(
    "names", [("impostor", "Impostor"), ("impostor", ""), ("natural target", "impostor"), ("a/b", "a-b")]
)
def test_ambiguous_names_are_refused(scored, names):
    systems = [Impostor() for _ in names]
    for system, name in zip(systems, names, strict=True):
        system.name = name
    with pytest.raises(ValueError, match="of a system is empty or taken"):
        scored(*systems)


def test_scoring_against_references_is_noted(scored, test_set):
    targets = {name: Target(name, target.references) for name, target in test_set().targets.items()}
    assert not any("without trials" in note for note in scored(NaturalSource()).notes)
    assert any("Targets without trials" in note for note in scored(NaturalSource(), targets=targets).notes)


def test_sources_references_and_trials_must_differ(test_set, recorded):
    targets = dict(test_set().targets)
    source = test_set().pairs[0].source
    for wrong in (Target("bert", (source,)), Target("bert", targets["bert"].references, (source,))):
        with pytest.raises(ValueError, match="the source of p0 is also a recording of its target bert"):
            test_set(targets=targets | {"bert": wrong})
    with pytest.raises(ValueError, match="both a reference and a trial of bert"):
        test_set(targets=targets | {"bert": Target("bert", targets["bert"].trials, targets["bert"].trials)})


def test_files(scored, test_set, tmp_path):
    results = scored(NaturalSource(), Impostor(fails=["p1"]), reference_seconds=(None,))
    write_results(results, test_set(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "sounds"}
    lines = list(csv.DictReader(io.StringIO((tmp_path / "pairs.csv").read_text())))
    assert len(lines) == 6 and lines[3]["heard"] == "the cat" and float(lines[3]["wer"]) == pytest.approx(33.3333)
    assert lines[4]["error"] == "RuntimeError: it broke"
    named = [replace(outcome, pair="=1+1", values={"similarity": -0.5}) for outcome in results.outcomes]
    line = as_csv(replace(results, outcomes=named)).splitlines()[1]
    assert "'=1+1" in line.split(",") and "-0.5" in line.split(",")  # text is no formula, and a number is a number
    facts = json.loads((tmp_path / "results.json").read_text())
    assert (facts["pairs"][0]["said"], facts["pairs"][0]["heard"]) == (
        "the cat sat",
        "the cat",
    )  # the keys of old files
    assert lines[0]["said"] == "the cat sat" and facts["systems"][0]["what"] == "the recordings that are converted"
    low, value, high = (facts["systems"][0]["values"]["similarity"][name] for name in ("low", "value", "high"))
    assert low <= value <= high and low < high
    table = (tmp_path / "table.md").read_text()
    assert "| impostor | all | 33.3 (33.3..33.3)" in table and "- words: a recogniser" in table
    assert "words: a recogniser" in as_text(results) and "natural target" in as_text(results)
    assert as_csv(results).count("\n") == 7 and "RuntimeError" in as_json(results)
    assert "words: a recogniser" in (tmp_path / "index.html").read_text() and "| system |" in as_markdown(results)
