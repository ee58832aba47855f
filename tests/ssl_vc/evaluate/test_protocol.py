"""Protocol files round-trip, resolve to test sets, and are checked when read."""

import dataclasses
import logging
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pretrain.data.manifest import read_manifest
from ssl_vc.evaluate.pairs import Target, read_references
from ssl_vc.evaluate.protocol import Protocol, TargetClips, knn_vc, read_protocol, write_protocol

ROOT = Path(__file__).parents[3]
DEV = ROOT / "configs" / "evaluate" / "dev.yaml"
MANIFEST = ROOT.parent / "shared" / "data" / "manifest.tsv"


@pytest.fixture
def corpus(tmp_path):
    """Write a manifest of clips, whose files are never opened as it states their lengths."""

    def make(speakers=("anna", "bert", "carl"), clips=9, seconds=5.0, text="sentence {}", split="test"):
        rows = ["path\tsplit\tspeaker\tseconds\ttext"]
        for speaker in speakers:
            for number in range(clips):
                path = tmp_path / speaker / f"{number}.wav"
                path.parent.mkdir(exist_ok=True)
                path.touch()
                said = text.format(f"{number} of {speaker}")
                rows.append(f"{speaker}/{number}.wav\t{split}\t{speaker}\t{seconds}\t{said}")
        table = tmp_path / "clips.tsv"
        table.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return str(table)

    return make


def small(clips, **changes):
    facts = {
        "targets": {
            "anna": TargetClips(["anna/0.wav", "anna/1.wav"], ["anna/2.wav"]),
            "bert": TargetClips(["bert/0.wav"]),
        },
        "pairs": [["bert/1.wav", "anna"], ["carl/1.wav", "anna"], ["carl/2.wav", "bert"]],
    }
    return Protocol(name="small", clips=clips, split="test", **{**facts, **changes})


def test_texts_and_speakers_come_from_the_table(corpus, tmp_path):
    test_set = small(corpus(), reference_seconds=[15, "all"], versions={"judge": "5.1"}).test_set()
    assert test_set.reference_seconds == (15.0, None)
    assert small(corpus(), reference_seconds=[None, "3"]).test_set().reference_seconds == (None, 3.0)
    assert (test_set.recogniser, test_set.verifier, test_set.language, test_set.parallel) == ("", "", "en", False)
    assert test_set.versions == {"judge": "5.1"}
    judged = {"recogniser": "whisper:base", "verifier": "x.onnx", "language": "de", "parallel": True}
    other = small(corpus(), **judged).test_set()
    assert {name: getattr(other, name) for name in judged} == judged
    assert [(pair.source.relative_to(tmp_path).as_posix(), pair.target) for pair in test_set.pairs] == [
        ("bert/1.wav", "anna"),
        ("carl/1.wav", "anna"),
        ("carl/2.wav", "bert"),
    ]
    assert [pair.text for pair in test_set.pairs] == ["sentence 1 of bert", "sentence 1 of carl", "sentence 2 of carl"]
    assert [pair.speaker for pair in test_set.pairs] == ["bert", "carl", "carl"]
    anna = Target("anna", (tmp_path / "anna/0.wav", tmp_path / "anna/1.wav"), (tmp_path / "anna/2.wav",))
    assert test_set.targets == {"anna": anna, "bert": Target("bert", (tmp_path / "bert/0.wav",))}


def test_names_differ_where_files_are_called_alike(corpus):
    names = [pair.name for pair in small(corpus()).test_set().pairs]
    assert names == ["bert-1.wav__anna", "carl-1.wav__anna", "2__bert"]


def test_a_targets_own_reading_is_found(corpus, tmp_path):
    clips = corpus(text="{:.1} says the same")  # the number of the clip, that is
    readings = [pair.reading for pair in small(clips).test_set().pairs]
    assert readings == [None, None, tmp_path / "bert/2.wav"]  # anna's is one of her references
    moved = {"anna": TargetClips(["anna/0.wav"], ["anna/1.wav"]), "bert": TargetClips(["bert/2.wav"])}
    readings = [pair.reading for pair in small(clips, targets=moved).test_set().pairs]
    assert readings == [tmp_path / "anna/1.wav", tmp_path / "anna/1.wav", None]
    readings = [pair.reading for pair in small(corpus(text="")).test_set().pairs]
    assert readings == [None, None, None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": []}, "pairs is empty"),
        ({"targets": {}}, "targets is empty"),
        ({"clips": ""}, "clips is empty"),
        ({"pairs": [["bert/1.wav"]]}, "has 1 elements"),
        ({"pairs": [["bert/1.wav", "dora"]]}, "the target 'dora' of 'bert/1.wav' is unknown; possible are anna, bert"),
        ({"pairs": [["anna/0.wav", "anna"]]}, "'anna/0.wav' is also a reference of its target 'anna'"),
        ({"pairs": [["bert/99.wav", "anna"]]}, "lists no clip 'bert/99.wav' with the split 'test'"),
        ({"pairs": [["bert/1.wav", "anna"]] * 2}, "two pairs are named '1__anna'"),
        ({"targets": {"anna": TargetClips(), "bert": TargetClips(["bert/0.wav"])}}, "'anna' has no references"),
        (
            {"targets": {"anna": TargetClips(["a"], ["a"]), "bert": TargetClips(["b"])}},
            "'a' is listed twice for 'anna",
        ),
        ({"targets": {"anna": TargetClips(["x"]), "bert": TargetClips(["y"])}}, "lists no clip 'x'"),
        ({"targets": {"anna": TargetClips(["anna/0.wav"], ["z"]), "bert": TargetClips(["bert/0.wav"])}}, "no clip 'z'"),
        ({"reference_seconds": ["much"]}, "reference_seconds has 'much'; write numbers, or all"),
        ({"reference_seconds": [0]}, "reference_seconds is 0; use a number above 0"),
    ],
)
def test_wrong_protocols_are_explained(corpus, changes, message):
    clips = corpus()
    with pytest.raises(ValueError, match=message):
        small(**{"clips": clips, **changes}).test_set()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("judge: me", "the file has the key 'judge'; possible are name, clips, split, reference_seconds"),
        ("reference_seconds: 60", "reference_seconds is 60; write a list"),
        ("split: 12", "split: 12 is not a string; quote it"),
        ("language: no", "language: False is not a string; quote it"),  # Norwegian, to its author
        ("parallel: maybe", "parallel is 'maybe'; write true or false"),
        ("parallel: 1", "parallel is 1; write true or false"),
        ("versions: {pocketsphinx: 5.1}", "versions: 5.1 is not a string; quote it"),
        ("versions: 3", "versions is 3; write keys with values"),
        ("pairs: [a]", "pairs is 'a'; write a list"),
        ("pairs: [[a, 1]]", "pairs: 1 is not a string"),
        ("pairs: {a: b}", "pairs is {'a': 'b'}; write a list"),
        ("pairs: []", r"wrong\.yaml: pairs is empty"),
        ("targets: [anna]", r"targets is \['anna'\]; write keys"),
        ("targets: {anna: [a]}", r"the target 'anna' is \['a'\]; write keys"),
        ("targets: {anna: {voice: [a]}}", "the target 'anna' has the key 'voice'; possible are references, trials"),
        ("targets: {anna: {references: a.wav}}", "references of 'anna' is 'a.wav'; write a list"),
        ("targets: {367: {references: [a]}}", "keys of targets: 367 is not a string"),
        ("name: [", r"is not a YAML file: .*line \d+"),
    ],
)
def test_files_that_are_no_protocol(corpus, tmp_path, line, message):
    path = tmp_path / "wrong.yaml"
    write_protocol(small(corpus()), path)
    key = line.partition(":")[0]
    kept = {name: value for name, value in yaml.safe_load(path.read_text()).items() if name != key}
    path.write_text(yaml.safe_dump(kept) + line)
    with pytest.raises(ValueError, match=message):
        read_protocol(path)


def test_a_protocol_needs_a_file(tmp_path):
    (tmp_path / "empty.yaml").touch()
    with pytest.raises(ValueError, match="the file is None; write keys"):
        read_protocol(tmp_path / "empty.yaml")
    with pytest.raises(ValueError, match="there is no file"):
        read_protocol(tmp_path / "none.yaml")


def test_protocols_round_trip(corpus, tmp_path):
    speakers = ("0811", "1e5", "no", "12:30", "ünal", "1_000", "367")  # that YAML's readers may take for something else
    made = knn_vc(corpus(speakers), "test", utterances=3, reference_seconds=(10, None, 3.5))
    made = dataclasses.replace(made, versions={"judge": "5.10"}, name="no", language="no", parallel=True)
    write_protocol(made, tmp_path / "made.yaml")
    assert read_protocol(tmp_path / "made.yaml") == made
    backwards = dataclasses.replace(made, targets=dict(reversed(made.targets.items())))
    write_protocol(backwards, tmp_path / "made.yaml")
    assert [*read_protocol(tmp_path / "made.yaml").targets] == [*backwards.targets]
    assert yaml.safe_load((tmp_path / "made.yaml").read_text(encoding="utf-8")) == dataclasses.asdict(made)


def test_knn_vc_targets_are_assigned_round_robin(corpus):
    clips = corpus(("anna", "bert", "carl", "dora"), clips=10)
    made = knn_vc(clips, "test", utterances=6)
    assert list(made.targets) == ["anna", "bert", "carl", "dora"]
    for name, recordings in made.targets.items():
        keys = {*recordings.references, *recordings.trials}
        assert len(recordings.trials) == 6
        assert keys == {f"{name}/{number}.wav" for number in range(10)}
        assert [source for source, _ in made.pairs if source.startswith(name)] == recordings.trials
    visits = Counter((source.partition("/")[0], target) for source, target in made.pairs)
    assert len(visits) == 12
    assert {*visits.values()} == {2}
    assert all(source != target for source, target in visits)
    assert made.test_set().pairs[0].text.startswith("sentence")
    few = knn_vc(clips, "test", utterances=1)  # fewer sources than targets
    assert Counter(target for _, target in few.pairs) == dict.fromkeys(few.targets, 1)


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (2, 2), (3, 3), (0, 3), (9, 3)])
def test_knn_vc_converts_a_source_to_different_targets(corpus, asked, given):
    made = knn_vc(corpus(("anna", "bert", "carl", "dora")), "test", utterances=4, targets_per_source=asked)
    assert {*Counter(source for source, _ in made.pairs).values()} == {given}
    assert len({tuple(pair) for pair in made.pairs}) == len(made.pairs) == 16 * given


def test_knn_vc_draws_the_same_again(corpus):
    clips = corpus(clips=30)
    rows = Path(clips).read_text().splitlines()
    made = knn_vc(clips, "test")
    assert knn_vc(clips, "test", seed=1).pairs != made.pairs
    Path(clips).write_text("\n".join([rows[0], *rows[:0:-1]]))
    assert knn_vc(clips, "test") == made
    assert made.targets["anna"].references != sorted(made.targets["anna"].references)  # in mixed order


def test_knn_vc_takes_eight_minutes_of_reference_or_what_is_asked(corpus):
    clips = corpus(clips=300, seconds=4.0)
    assert len(knn_vc(clips, "test").targets["anna"].references) == 120
    assert len(knn_vc(clips, "test", reference_seconds=(60,)).targets["anna"].references) == 120
    asked = knn_vc(clips, "test", reference_seconds=(3, 800))
    assert len(asked.targets["anna"].references) == 250  # a fifth more than 800 s, because silence will be cut off
    assert asked.reference_seconds == [3, 800]


def test_knn_vc_converts_only_sentences_with_text(corpus):
    with pytest.raises(ValueError, match="has no texts, which the sources need"):
        knn_vc(corpus(text=""), utterances=2)
    with pytest.raises(
        ValueError, match=r"no two speakers of .* have 2 utterances .*anna \(0 utterances, 16 s besides\)"
    ):
        knn_vc(corpus(seconds=1.8), utterances=2)
    with pytest.raises(ValueError, match="0 utterances, 189 s besides"):
        knn_vc(corpus(seconds=21), utterances=2)


def test_knn_vc_leaves_out_speakers_with_too_little(corpus, caplog):
    clips = corpus()
    rows = Path(clips).read_text().splitlines()
    Path(clips).write_text("\n".join(row for row in rows if not row.startswith(("bert/7", "bert/8"))))
    with caplog.at_level(logging.WARNING):
        made = knn_vc(clips, "test", utterances=4, reference_seconds=(30,))
    assert list(made.targets) == ["anna", "carl"]
    assert "1 speakers left out" in caplog.text
    assert "bert (4 utterances, 15 s besides)" in caplog.text
    with pytest.raises(ValueError, match="no two speakers"):
        knn_vc(clips, "test", utterances=9)  # nothing is left for reference
    with pytest.raises(ValueError, match="and 480 s besides"):
        knn_vc(clips, "test", utterances=4, reference_seconds=(None, 480))


def test_knn_vc_refuses_what_cannot_be(corpus):
    nameless = corpus()
    Path(nameless).write_text(Path(nameless).read_text().replace("\tspeaker\t", "\twho\t"))
    with pytest.raises(ValueError, match="names no speakers"):
        knn_vc(nameless)
    for options in ({"utterances": 0}, {"targets_per_source": -1}):
        with pytest.raises(ValueError, match="is impossible; use at least 1 utterance"):
            knn_vc(corpus(), **options)


def test_the_dev_protocol_is_balanced():
    said = yaml.safe_load(DEV.read_text(encoding="utf-8"))
    readers = [source.split("/")[1] for source, _ in said["pairs"]]
    targets = [target for _, target in said["pairs"]]
    assert Counter(readers) == dict.fromkeys(("1462", "1988", "2277", "2412"), 25)
    assert len({source for source, _ in said["pairs"]}) == 100
    assert {*targets} == {*said["targets"]}
    assert len({*targets}) == 12
    assert {*Counter(targets).values()} == {8, 9}
    assert {*Counter(zip(readers, targets, strict=True)).values()} == {2, 3}
    for recordings in said["targets"].values():
        assert len(recordings["trials"]) == 3
        assert not {*recordings["trials"]} & {*recordings["references"]}


def test_the_final_protocol_has_sentences_that_nothing_was_tuned_on():
    dev, final = (
        yaml.safe_load((DEV.parent / name).read_text(encoding="utf-8")) for name in ("dev.yaml", "final.yaml")
    )
    readers = Counter(source.rpartition("/")[0] for source, _ in final["pairs"])
    assert readers == {
        **dict.fromkeys((f"librispeech-6khz/{reader}" for reader in (1462, 1988, 2277, 2412)), 21),
        **dict.fromkeys((f"librispeech/{reader}" for reader in (1998, 2609, 3080, 367)), 4),
    }
    assert not {source for source, _ in final["pairs"]} & {source for source, _ in dev["pairs"]}
    assert {*Counter(target for _, target in final["pairs"]).values()} == {7, 8, 9}
    assert final["targets"] == dev["targets"]


@pytest.mark.skipif(not MANIFEST.is_file(), reason="needs the speech in ../shared")
def test_the_dev_protocol_finds_its_clips(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SSL_VC_CLIPS", "../shared/data/manifest.tsv")
    test_set = read_protocol(DEV).test_set()
    assert test_set.reference_seconds == (60.0,)
    assert len({pair.text for pair in test_set.pairs}) == 100
    assert all(pair.text for pair in test_set.pairs)
    clips = {clip.path: clip for clip in read_manifest("../shared/data/manifest.tsv", "dev")}
    assert all(3 <= clips[pair.source].seconds <= 12 for pair in test_set.pairs)
    for target in test_set.targets.values():
        recordings = [clips[path] for path in (*target.references, *target.trials)]
        assert {clip.speaker for clip in recordings} == {target.name}
        assert len(recordings) == sum(clip.speaker == target.name for clip in clips.values())
        assert 12 <= sum(clips[path].seconds for path in target.trials) <= 25
    wavs = read_references(test_set.targets["vctk-p225"], 60)  # who has least
    assert sum(map(len, wavs)) >= 48 * 16_000
