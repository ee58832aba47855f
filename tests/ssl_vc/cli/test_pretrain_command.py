"""`ssl-vc pretrain`: one command from sound files to an encoder."""

import json
import shutil
from pathlib import Path

import pytest

import ssl_vc
from pretrain import SpeechEncoder
from pretrain.data.manifest import read_manifest
from pretrain.data.shards import write_shards
from pretrain.labels.features import MfccFeatures
from pretrain.labels.kmeans_labels import label_clips

DEBUG = Path(__file__).parents[3] / "configs" / "pretrain" / "debug.yaml"


@pytest.fixture(scope="module")
def clips(tmp_path_factory, speech):
    folder = tmp_path_factory.mktemp("clips")
    for clip in range(4):
        ssl_vc.write(folder / f"{clip}.wav", speech(1.5, pitch=100 + 30 * clip, text=clip), 16_000)
    return folder


def test_one_command(run, clips, tmp_path):
    settings = [f"clips={clips}", f"valid_clips={clips}", "train.steps=2", "train.log_every=1", "train.seconds=4"]
    # the folder of clips cannot be both: the same names would have two sounds
    status, _, error = run("pretrain", DEBUG, *settings, "-o", tmp_path / "twice")
    assert status == 1
    assert "two clips are called '0.wav'" in error
    settings[1] = "valid_clips="
    status, out, error = run("pretrain", DEBUG, *settings, "-o", tmp_path / "run", "--json")
    assert status == 0, error
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["iteration"], line["step"]) for line in lines] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert all(line["masked"] > 0 and line["speed"] > 0 and 0 <= line["accuracy"] <= 1 for line in lines)
    assert SpeechEncoder.from_pretrained(tmp_path / "run" / "encoder").config.depth == 2
    assert "1: accuracy" in (tmp_path / "run" / "curves.svg").read_text()
    assert "the encoder is in" in error
    # again: nothing is left to do
    status, out, error = run("pretrain", DEBUG, *settings, "-o", tmp_path / "run")
    assert (status, out) == (0, "")
    assert "iteration 2 is done, after 2 steps" in error


def test_an_interrupted_training_needs_resume(run, clips, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "state.pt").write_bytes(b"")
    status, _, error = run("pretrain", DEBUG, f"clips={clips}", "-o", tmp_path)
    assert status == 1
    assert "continue it with --resume" in error


@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        (["train.stepz=3"], 2, "stepz"),
        (["train.steps"], 2, "there are no clips at train.steps; settings are written KEY=VALUE"),
        (["train.steps=few"], 2, "few"),
        (["train.objective=karaoke"], 2, "possible are hubert, wavlm"),
        (["iterations.7.train.steps=3"], 2, "debug.yaml"),
        (["clips="], 1, "there are no clips to train on"),
        (["clips=nowhere"], 1, "there are no clips at nowhere"),
        (["shape.dimm=3"], 2, "shape has 'dimm'; possible are"),
    ],
)
def test_wrong_settings_are_one_line(run, tmp_path, settings, status, message):
    got, _, error = run("pretrain", DEBUG, *settings, "-o", tmp_path / "run")
    assert (got, message in error, error.count("\n")) == (status, True, 1), error


def test_broken_files_are_one_line(run, tmp_path):
    (tmp_path / "broken.yaml").write_text("train: {steps: [")
    for name, message in (("broken.yaml", "broken.yaml"), ("gone.yaml", "there is no file")):
        status, _, error = run("pretrain", tmp_path / name)
        assert (status, message in error, error.count("\n")) == (2, True, 1), error


@pytest.mark.parametrize("source", ["pipe:touch ran", ".", "pipe:touch ran;"], ids=["config", "file", "folder"])
def test_shards_run_no_command(run, clips, tmp_path, monkeypatch, source):
    found = read_manifest(clips)
    label_clips(found, tmp_path / "labels", MfccFeatures(), clusters=8)
    (tmp_path / "here" / "pipe:touch ran;").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    write_shards(found, tmp_path / "shards")
    for name in ("pipe:touch ran;.tar", "pipe:touch ran;/shard.tar"):
        shutil.copy(tmp_path / "shards" / "shard-000000.tar", name)
    labels = f"clips: {source!r}\nstorage: shards\niterations: [labels: [of: {str(tmp_path / 'labels')!r}]]\n"
    (tmp_path / "recipe.yaml").write_text(DEBUG.read_text().partition("iterations:")[0] + labels)
    status, _, error = run("pretrain", tmp_path / "recipe.yaml", "train.steps=1", "-o", tmp_path / "run")
    assert not Path("ran").exists()
    if source == "pipe:touch ran":
        wanted = "is refused; shards are a folder of .tar files, paths, or https addresses."
        assert (status, error.splitlines()[-1]) == (1, f"error: 'pipe:touch ran' {wanted}")
    else:
        assert status == 0, error
