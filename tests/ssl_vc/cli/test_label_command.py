"""`ssl-vc label`: what a user sees."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from pretrain.labels.kmeans_labels import KMeansLabels

pytest.importorskip("faiss", reason="faiss is not installed (extra train)")

FEW = ("--clusters", 6)


@pytest.fixture(scope="module")
def table(tmp_path_factory, speech):
    """Two clips to train on, one for development, and a row without a file."""
    folder = tmp_path_factory.mktemp("clips")
    for n in range(3):
        soundfile.write(folder / f"{n}.wav", speech(1.0 + 0.3 * n, text=n).numpy(), 16_000)
    rows = ["path\tsplit", "0.wav\ttrain", "1.wav\ttrain", "2.wav\tdev", "lost.wav\ttrain"]
    (folder / "clips.tsv").write_text("\n".join(rows) + "\n")
    return folder / "clips.tsv"


def test_labels_of_mfcc(run, table, tmp_path):
    status, out, err = run("label", table, "-o", tmp_path / "labels", "--split", "train", "--also-split", "dev", *FEW)
    assert (status, len(out.splitlines())) == (0, 1)
    assert out.startswith(f"{tmp_path}/labels: 3 clips, 0.00 h, 6 clusters, 0 unused, perplexity ")
    assert "lost.wav (not there)" in err
    assert "fitting 6 clusters to 2 clips" in err
    labels = KMeansLabels.open(tmp_path / "labels")
    assert labels.keys == ["0.wav", "1.wav", "2.wav"]
    assert labels.facts["kind"] == "mfcc"


def test_labels_of_a_layer(run, table, tmp_path):
    options = (*FEW, "--of", "untrained", "--layer", 2, "--device", "cpu", "--json")
    status, out, _ = run("label", table, "-o", tmp_path / "labels", *options)
    assert status == 0
    result = json.loads(out)
    assert (result["kind"], result["layer"], result["clusters"], result["clips"]) == ("ssl", 2, 6, 3)
    assert result["used"] + result["dead"] == 6
    assert KMeansLabels.open(tmp_path / "labels").kmeans.centres.shape[1] == result["dim"]


def test_clusters_of_other_labels(run, table, tmp_path):
    run("label", table, "-o", tmp_path / "first", "--split", "train", *FEW)
    status, _, err = run("label", table, "-o", tmp_path / "second", "--model", tmp_path / "first", "--split", "dev")
    assert status == 0
    assert "fitting" not in err
    first, second = KMeansLabels.open(tmp_path / "first"), KMeansLabels.open(tmp_path / "second")
    assert second.keys == ["2.wav"]
    assert np.array_equal(first.kmeans.centres, second.kmeans.centres)


def test_clips_from_elsewhere(run, table, tmp_path, speech):
    (tmp_path / "more").mkdir()
    soundfile.write(tmp_path / "more" / "new.wav", speech(0.5).numpy(), 16_000)
    status, _, _ = run("label", table, "-o", tmp_path / "labels", "--also", tmp_path / "more", *FEW)
    assert status == 0
    assert KMeansLabels.open(tmp_path / "labels").keys == ["0.wav", "1.wav", "2.wav", "new.wav"]


def test_labels_are_evaluated_by_phones(run, table, tmp_path, monkeypatch):
    class Phones(dict):
        symbols = ("SIL", "A")

    run("label", table, "-o", tmp_path / "labels", *FEW)
    labels = KMeansLabels.open(tmp_path / "labels")
    phones = Phones({"1.wav": (labels["1.wav"] > 2).astype(np.int64)})
    monkeypatch.setattr("pretrain.labels.align.PhoneAlignments", SimpleNamespace(open=lambda folder: phones))
    status, out, err = run("label", table, "-o", tmp_path / "labels", *FEW, "--phones", tmp_path / "phones")
    assert status == 0
    assert "labelling" not in err  # they were there
    assert "phone purity 1.000" in out
    assert "PNMI 1.000" in out
    assert json.loads((tmp_path / "labels" / "quality.json").read_text())["phone_frames"] == len(phones["1.wav"])


def test_other_labels_are_kept_without_force(run, table, tmp_path):
    run("label", table, "-o", tmp_path / "labels", *FEW)
    status, _, err = run("label", table, "-o", tmp_path / "labels", "--clusters", 7)
    assert status == 1
    assert "other settings" in err
    assert KMeansLabels.open(tmp_path / "labels").clusters == 6
    assert run("label", table, "-o", tmp_path / "labels", "--clusters", 7, "--force")[0] == 0
    assert KMeansLabels.open(tmp_path / "labels").clusters == 7


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--layer", 3), 2, "choose one with --of"),
        (("--clusters", 1), 2, "clusters"),
        (("-o", "TABLE"), 2, "is a file"),
        (("--of", "nothing"), 1, "there is no model 'nothing'"),
        (("--of", "untrained", "--layer", 99), 1, "layer is 99"),
        (("--model", "nowhere"), 1, "no labels at"),
        (("--split", "test"), 1, "no usable clips"),
        (("--clusters", 60_000), 1, "cannot make 60000 clusters"),
        (("--also-split", "dev"), 1, "two clips are called"),
    ],
)
def test_mistakes(run, table, tmp_path, options, status, message):
    options = [table if word == "TABLE" else word for word in options]
    code, out, err = run("label", table, "-o", tmp_path / "labels", *options)
    last = err.splitlines()[-1]
    assert (code, out) == (status, "")
    assert last.startswith("error: ")
    assert message in last
    assert not (tmp_path / "labels").exists()
