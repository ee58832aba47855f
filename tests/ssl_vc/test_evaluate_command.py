import csv
import json

import pytest
import yaml

import ssl_vc

QUICK = ("--recogniser", "none", "--verifier", "none")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, speech):
    """A table of two speakers with five clips each."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = ["path\tspeaker\tsplit\tseconds\ttext"]
    for speaker, pitch in (("anna", 210), ("bert", 105)):
        for text in range(5):
            name = f"{speaker}{text}.wav"
            ssl_vc.write(folder / name, speech(2.2, pitch=pitch, text=text), 16_000)
            rows.append(f"{name}\t{speaker}\tdev\t2.2\tsentence number {'abcde'[text]}")
    (folder / "clips.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def pairs(corpus, tmp_path):
    """Write a table of pairs."""

    def write(*lines, header="source,target,name"):
        file = tmp_path / "pairs.csv"
        file.write_text("\n".join([header, *lines]).replace("~", str(corpus) + "/") + "\n")
        return file

    return write


def test_a_table_of_pairs(run, pairs, tmp_path):
    listed = pairs("~anna0.wav,~bert1.wav;~bert2.wav,one", "~bert0.wav,~anna1.wav,two")
    out = tmp_path / "out"
    options = ("--model", "untrained", "--vocoder", "griffin-lim", "--matcher", "knn", "--blend", "1", "0.5", *QUICK)
    status, text, _ = run("evaluate", listed, "-o", out, "--beside", "mel/griffin-lim", *options)
    assert status == 0
    assert str(out / "index.html") in text and "untrained, blend 0.5" in text
    assert "Intervals are 95 %" in text and "2 of 2 pairs have no text" in text
    lines = list(csv.DictReader((out / "pairs.csv").read_text().splitlines()))
    systems = ["natural source", "mel/griffin-lim", "untrained, blend 1.0", "untrained, blend 0.5"]
    assert [line["system"] for line in lines] == [name for name in systems for _ in range(2)]
    assert all((out / line["file"]).is_file() for line in lines[2:]) and not any(line["error"] for line in lines)
    assert not (out / "protocol.yaml").exists()
    facts = {each["system"]: each for each in json.loads((out / "results.json").read_text())["systems"]}
    assert facts["untrained, blend 1.0"]["size_mb"] > 10 and facts["natural source"]["size_mb"] is None
    assert facts["mel/griffin-lim"]["values"]["mcd_db"]["value"] > 0
    assert facts["untrained, blend 0.5"]["values"]["real_time_factor"]["value"] > 0
    status, _, error = run("evaluate", listed, "-o", out, *options)
    assert status == 1 and "exists; --force overwrites it" in error


def test_sounds_made_elsewhere_judged_again(run, pairs, corpus, tmp_path):
    listed = pairs("~anna0.wav,~bert1.wav,~bert2.wav", header="source,target,converted")
    status, text, _ = run("evaluate", listed, "-o", tmp_path / "out", *QUICK, "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    assert status == 0 and [row["system"] for row in rows] == ["natural source", "converted"]
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "anna0__bert1.wav").write_bytes((corpus / "bert3.wav").read_bytes())
    given = ("--converted", f"best={tmp_path / 'theirs'}")
    status, text, _ = run("evaluate", listed, "-o", tmp_path / "again", *QUICK, *given, "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    assert status == 0 and [row["system"] for row in rows] == ["natural source", "converted", "best"]


def test_a_protocol_is_made_and_gives_the_same_again(run, corpus, tmp_path):
    given = ("--protocol", "knn-vc", "--clips", corpus / "clips.tsv", "--split", "dev", "--utterances", "2")
    models = ("--model", "untrained", "--vocoder", "griffin-lim", "--matcher", "knn", *QUICK)
    status, _, _ = run("evaluate", *given, "-o", tmp_path / "one", "--reference-seconds", "2", "all", *models)
    assert status == 0
    made = yaml.safe_load((tmp_path / "one" / "protocol.yaml").read_text())
    assert made["reference_seconds"] == [2.0, "all"] and len(made["pairs"]) == 4
    assert {pair[1] for pair in made["pairs"]} == {"anna", "bert"}
    assert run("evaluate", tmp_path / "one" / "protocol.yaml", "-o", tmp_path / "two", *models)[0] == 0
    assert (tmp_path / "one" / "protocol.yaml").read_text() == (tmp_path / "two" / "protocol.yaml").read_text()
    figures = []
    for name in ("one", "two"):
        systems = json.loads((tmp_path / name / "results.json").read_text())["systems"]
        for each in systems:
            each["values"].pop("real_time_factor", None), each.pop("peak_memory_mb")
        figures.append(systems)
    assert figures[0] == figures[1]
    assert [each["reference_seconds"] for each in figures[0]] == [None, 2.0, None]
    few = run("evaluate", tmp_path / "one" / "protocol.yaml", "-o", tmp_path / "few", *models, "--first", "2", "--json")
    assert few[0] == 0 and [json.loads(line)["pairs"] for line in few[1].splitlines()] == [2, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "give PAIRS"),
        (["--protocol", "knn-vc"], 2, "--clips"),
        (["pairs.csv", "--protocol", "knn-vc"], 2, "give PAIRS"),
        (["nothing.csv"], 1, "no file"),
        (["nothing.yaml"], 1, "no file"),
        (["pairs.csv", "--beside", "mel"], 2, "mel-knn and FEATURES/VOCODER"),
        (["pairs.csv", "--beside", "mel/world"], 1, "do not fit"),
        (["pairs.csv", "--matcher", "nearest"], 2, "no matcher 'nearest'"),
        (["pairs.csv", "--reference-seconds", "few"], 2, "'few' is neither a number nor all"),
        (["pairs.csv", "--reference-seconds", "-1", "--model", "untrained"], 1, "seconds of reference"),
        (["pairs.csv", "--converted", "nowhere"], 1, "no folder 'nowhere'"),
        (["pairs.csv", "--model", "untrained", "--dnsmos", "nowhere.onnx"], 1, "nowhere.onnx"),
    ],
)
def test_wrong_usage(run, pairs, corpus, tmp_path, monkeypatch, arguments, status, said):
    monkeypatch.chdir(tmp_path)
    pairs("~anna0.wav,~bert1.wav,one")
    found, _, error = run("evaluate", *arguments, "-o", tmp_path / "out", *QUICK)
    assert (found, error.count("\n")) == (status, 1) and error.startswith("error: ") and said in error
    assert not (tmp_path / "out").exists()


def test_where_nothing_can_be_made_it_fails(run, pairs, corpus, tmp_path):
    listed = pairs("~anna0.wav,missing.wav,one")
    options = ("--model", "untrained", "--vocoder", "griffin-lim", *QUICK)
    status, _, error = run("evaluate", listed, "-o", tmp_path / "out", *options)
    assert status == 1 and "missing.wav" in error
    assert "missing.wav" in (tmp_path / "out" / "pairs.csv").read_text()
