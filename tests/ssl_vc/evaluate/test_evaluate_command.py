import csv
import json

import pytest
import yaml

import ssl_vc

QUICK = ("--recogniser", "none", "--verifier", "none")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, speech):
    """A manifest of two speakers with five clips each."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = ["path\tspeaker\tsplit\tseconds\ttext"]
    for speaker, pitch in (("anna", 210), ("bert", 105)):
        for text in range(5):
            name = f"{speaker}{text}.wav"
            ssl_vc.write(folder / name, speech(2.2, pitch=pitch, text=text), 16_000)
            rows.append(f"{name}\t{speaker}\tdev\t2.2\tsentence number {'abcde'[text]}")
    (folder / "clips.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(autouse=True)
def no_judges_of_this_machine(monkeypatch):
    monkeypatch.delenv("SSL_VC_JUDGES", raising=False)


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
    status, text, _ = run("evaluate", listed, "-o", out, "--baseline", "mel/griffin-lim", *options)
    assert status == 0
    assert str(out / "index.html") in text and "untrained, blend 0.5" in text
    assert "Weights (MB)" in text and "RTF" in text and "no text" not in text  # there is no recogniser
    lines = list(csv.DictReader((out / "pairs.csv").read_text().splitlines()))
    systems = ["natural source", "mel/griffin-lim", "untrained, blend 1.0", "untrained, blend 0.5"]
    assert [line["system"] for line in lines] == [name for name in systems for _ in range(2)]
    assert all((out / line["file"]).is_file() for line in lines[2:]) and not any(line["error"] for line in lines)
    assert not (out / "protocol.yaml").exists()
    facts = {each["system"]: each for each in json.loads((out / "results.json").read_text())["systems"]}
    assert facts["untrained, blend 1.0"]["size_mb"] > 5 and facts["natural source"]["size_mb"] is None
    assert facts["mel/griffin-lim"]["values"]["copy_mcd_db"]["value"] > 0
    assert facts["untrained, blend 0.5"]["values"]["real_time_factor"]["value"] > 0
    status, _, error = run("evaluate", listed, "-o", out, *options)
    assert status == 1 and "exists; --force overwrites it" in error


def test_external_audio(run, pairs, corpus, tmp_path):
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


def test_a_protocol_reproduces_its_figures(run, corpus, tmp_path):
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
    few = run(
        "evaluate", tmp_path / "one" / "protocol.yaml", "-o", tmp_path / "few", *models, "--subset", "2", "--json"
    )
    assert few[0] == 0 and [json.loads(line)["pairs"] for line in few[1].splitlines()] == [2, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "name PAIRS"),
        (["--protocol", "knn-vc"], 2, "--clips"),
        (["pairs.csv", "--protocol", "knn-vc"], 2, "name PAIRS"),
        (["nothing.csv"], 1, "no file"),
        (["nothing.yaml"], 1, "no file"),
        (["pairs.csv", "--baseline", "mel"], 2, "mel-knn, units, units-frames, speak:BLEND and FEATURES/VOCODER"),
        (["pairs.csv", "--baseline", "mel/world"], 1, "do not fit"),
        (["pairs.csv", "--matcher", "nearest"], 2, "no matcher 'nearest'"),
        (["pairs.csv", "--reference-seconds", "few"], 2, "'few' is neither a number nor all"),
        (["pairs.csv", "--reference-seconds", "-1", "--model", "untrained"], 1, "reference_seconds"),
        (["pairs.csv", "--converted", "nowhere"], 1, "no folder 'nowhere'"),
        (["pairs.csv", "--utterances", "3"], 2, "needs --protocol"),
        (["pairs.csv", "--clips", "clips.tsv"], 2, "a table of pairs names its files"),
        (["pairs.csv", "--baseline", "mel/griffin-lim", "--k", "3"], 2, "need a --model"),
        (["pairs.csv", "--k", "0"], 2, "--k"),
        (["pairs.csv", "--baseline", "mel/griffin-lim", "--dnsmos", "nowhere.onnx"], 1, "onnx"),
        (["pairs.csv", "--baseline", "mel/griffin-lim", "--judges", "nowhere"], 1, "no folder 'nowhere' of judges"),
        (["pairs.csv", "--mos", "utmos"], 2, "--mos"),
    ],
)
def test_wrong_usage(run, pairs, corpus, tmp_path, monkeypatch, arguments, status, said):
    monkeypatch.chdir(tmp_path)
    pairs("~anna0.wav,~bert1.wav,one")
    found, _, error = run("evaluate", *arguments, "-o", tmp_path / "out", *QUICK)
    assert (found, error.count("\n")) == (status, 1) and error.startswith("error: ") and said in error
    assert not (tmp_path / "out").exists()


def test_fails_if_every_pair_fails(run, pairs, corpus, tmp_path):
    listed = pairs("~anna0.wav,missing.wav,one")
    options = ("--model", "untrained", "--vocoder", "griffin-lim", *QUICK)
    status, _, error = run("evaluate", listed, "-o", tmp_path / "out", *options)
    assert status == 1 and "missing.wav" in error
    assert "missing.wav" in (tmp_path / "out" / "pairs.csv").read_text()


def test_inputs_are_not_overwritten(run, pairs, corpus, tmp_path):
    listed = pairs("~anna0.wav,~bert1.wav,one")
    options = ("--model", "untrained", "--vocoder", "griffin-lim", "--force", *QUICK)
    before = listed.read_text()
    status, _, error = run("evaluate", listed, "-o", tmp_path, *options)
    assert status == 1 and "both input and output" in error and listed.read_text() == before
    made = tmp_path / "out" / "sounds" / "theirs"
    made.mkdir(parents=True)
    given = ("--converted", f"theirs={made}")
    status, _, error = run("evaluate", listed, "-o", tmp_path / "out", *given, "--force", *QUICK)
    assert status == 1 and "lies in the output folder for audio" in error
    status, _, error = run("evaluate", listed, "-o", tmp_path / "out", *options[:4], *QUICK)
    assert status == 1 and "exists; --force overwrites it" in error


def test_a_folder_whose_name_has_an_equals_sign(run, pairs, corpus, tmp_path):
    listed = pairs("~anna0.wav,~bert1.wav,one")
    folder = tmp_path / "x=1"
    folder.mkdir()
    (folder / "one.wav").write_bytes((corpus / "bert3.wav").read_bytes())
    status, text, _ = run("evaluate", listed, "-o", tmp_path / "out", *QUICK, "--converted", folder, "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    assert status == 0 and rows[1]["system"] == "x=1" and rows[1]["judges"] == []
    assert rows[1]["values"]["jumpiness"]["count"] == 1 and isinstance(rows[1]["values"]["jumpiness"]["count"], int)


def test_a_smaller_subset_is_part_of_a_larger_one(run, corpus, tmp_path):
    given = ("--protocol", "knn-vc", "--clips", corpus / "clips.tsv", "--split", "dev", "--utterances", "4", *QUICK)
    chosen = []
    for subset, option in ((3, "--subset"), (5, "--first")):  # the old name still works
        models = ("--model", "untrained", "--vocoder", "griffin-lim", "--matcher", "knn", option, subset)
        assert run("evaluate", *given, *models, "-o", tmp_path / str(subset))[0] == 0
        chosen.append(yaml.safe_load((tmp_path / str(subset) / "protocol.yaml").read_text())["pairs"])
    assert all(pair in chosen[1] for pair in chosen[0]) and list(map(len, chosen)) == [3, 5]


def test_another_version_of_a_judge_is_noted(run, corpus, tmp_path):
    pytest.importorskip("pocketsphinx")
    given = ("--protocol", "knn-vc", "--clips", corpus / "clips.tsv", "--split", "dev", "--utterances", "1")
    models = ("--model", "untrained", "--vocoder", "griffin-lim", "--matcher", "knn", "--verifier", "none")
    assert run("evaluate", *given, *models, "-o", tmp_path / "one")[0] == 0
    protocol = tmp_path / "one" / "protocol.yaml"
    made = yaml.safe_load(protocol.read_text())
    assert list(made["versions"]) == ["pocketsphinx"]
    protocol.write_text(protocol.read_text().replace(made["versions"]["pocketsphinx"], "1.2.3"))
    assert run("evaluate", protocol, *models, "-o", tmp_path / "two")[0] == 0
    assert "made with pocketsphinx 1.2.3" in (tmp_path / "two" / "table.md").read_text()
    again = yaml.safe_load((tmp_path / "two" / "protocol.yaml").read_text())
    assert again["versions"] == made["versions"]


def test_old_option_names_are_hidden_aliases(run, pairs, tmp_path):
    _, text, _ = run("evaluate", "--help")
    assert "--baseline" in text and "--beside" not in text and "--subset" in text and "--first" not in text
    listed = pairs("~anna0.wav,~bert1.wav,one")
    status, text, _ = run("evaluate", listed, "-o", tmp_path / "out", "--beside", "mel/griffin-lim", *QUICK, "--json")
    assert status == 0 and [json.loads(line)["system"] for line in text.splitlines()][1:] == ["mel/griffin-lim"]
