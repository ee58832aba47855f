"""Recipes by name, on a plain folder of clips: one of each kind runs."""

from pathlib import Path

import pytest
import soundfile
import typer

from pretrain.recipe import PretrainConfig
from ssl_vc.cli.settings import read_config
from ssl_vc.tts.recipe import TTSConfig

TEXTS = ("Anna says hello.", "Hello and hello.")
WORDS = "anna AE N AH\nand AE N D\nhello HH AH L OW\nsays S EH Z\n"
VOCODER = ("vocoder.shape={width: 16, ffn_dim: 32, depth: 1, harmonic: true}", "vocoder.steps=2", "vocoder.batch=2")
SHAPE = "shape={width: 16, depth: 1, decoder_width: 16, decoder_depth: 1}"
RECIPES = {
    "pretrain": ("hubert-tiny", "train.steps=2", "iterations.0.train={steps: 2}", "iterations.1.train={steps: 2}"),
    "train-vocoder": ("mel-vocos-small", "steps=2", "adversarial_from=1", "batch=2", "shape={width: 16, depth: 1}"),
    "train-units": ("tiny", "clusters=8", "prosody_steps=2", *VOCODER),
    "train-tts": ("tiny", "steps=2", "g2p_steps=2", "batch=2", SHAPE),
}
MADE = {
    "pretrain": "encoder",
    "train-vocoder": "model",
    "train-units": "codec",
    "train-tts": "model",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, speech):
    """Two speakers; transcripts beside the recordings."""
    folder = tmp_path_factory.mktemp("speech")
    for number in range(6):
        speaker = folder / ("anna" if number % 2 else "bert")
        speaker.mkdir(exist_ok=True)
        soundfile.write(speaker / f"{number}.wav", speech(3.0, text=number % 2, pitch=110 + 80 * (number % 2)), 16_000)
        (speaker / f"{number}.txt").write_text(TEXTS[number % 2])
    return folder


@pytest.mark.parametrize("command", RECIPES)
def test_a_recipe_runs_on_a_folder(run, folder, tmp_path, command, monkeypatch):
    monkeypatch.delenv("SSL_VC_CLIPS", raising=False)
    name, *settings = RECIPES[command]
    (tmp_path / "words.dict").write_text(WORDS)
    if command == "train-tts":
        settings.append(f"dictionary={tmp_path / 'words.dict'}")
    status, _, err = run(command, name, folder, *settings, "-o", tmp_path / "out")
    assert status == 0, err
    assert (tmp_path / "out" / MADE[command]).is_dir()


def test_what_is_no_recipe_and_no_clips(run, folder, tmp_path):
    status, _, err = run("pretrain", "hubert-tyni", folder, "-o", tmp_path / "out")
    assert status == 2 and "there is no file hubert-tyni; recipes by name are best-rq-tiny, " in err
    status, _, err = run("train-tts", "tiny", tmp_path / "speeech", "-o", tmp_path / "out")
    assert status == 2 and f"there are no clips at {tmp_path / 'speeech'}; settings are written" in err
    status, _, err = run("train-tts", "tiny", f"clips={tmp_path / 'speeech'}", "-o", tmp_path / "out")
    assert status == 2 and f"there are no clips at {tmp_path / 'speeech'}" in err
    assert not (tmp_path / "out" / "g2p").exists()
    with pytest.raises(typer.BadParameter, match="there is no file pretrain/hubert-tiny"):
        read_config(Path("pretrain/hubert-tiny"), [], PretrainConfig, "pretrain")


def test_what_a_recipe_says_of_its_own_corpus_is_dropped(folder, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("clips: mine\nspeakers: [carl]\nleave_out: [test]\n")
    theirs = read_config(recipe, [str(folder), "steps=3"], TTSConfig, "tts")
    assert (theirs.clips, theirs.speakers, theirs.leave_out, theirs.steps) == (str(folder), (), (), 3)
    assert read_config(recipe, ["clips=other"], TTSConfig, "tts").speakers == ("carl",)
    assert read_config(recipe, [str(folder), "speakers=[anna]"], TTSConfig, "tts").speakers == ("anna",)
