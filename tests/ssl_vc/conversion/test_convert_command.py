"""`ssl-vc convert` and `ssl-vc voice`: files in, files out, one line where something is wrong."""

import json
import os

import pytest
import soundfile
import torch

import ssl_vc
from ssl_vc.hub.registry import load_encoder
from vocoder.vocos import Vocos, VocosConfig

RATE = 16_000


@pytest.fixture(scope="module")
def place(tmp_path_factory, speech):
    """A model with random weights, a source, two recordings of each of two targets."""
    folder = tmp_path_factory.mktemp("place")
    load_encoder("untrained").save_pretrained(folder / "model" / "encoder")
    torch.manual_seed(0)
    shape = VocosConfig(dim=256, width=16, ffn_dim=32, depth=1, reads={"kind": "ssl", "layer": 2, "normalized": False})
    Vocos(shape).save_pretrained(folder / "model" / "vocoder")
    clips = {"me": (120, 1, 2), "you": (120, 1, 4), "bert": (90, 0.9, 1), "anna1": (210, 1.2, 1)}
    clips["anna2"] = (210, 1.2, 3)
    for name, (pitch, size, text) in clips.items():
        soundfile.write(folder / f"{name}.wav", speech(2, pitch=pitch, size=size, text=text).numpy(), RATE)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    for name in ("out.wav", "out", "anna.voice", "bert.voice", "both.voice"):
        path = place / name
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        path.unlink(missing_ok=True)
    return place


MODEL = ("--model", "model")


def test_one_file(here, run):
    status, out, err = run("convert", "me.wav", "--target", "anna1.wav", "anna2.wav", "-o", "out.wav", *MODEL)
    assert (status, out.count("\n")) == (0, 1)
    assert out.startswith("me.wav -> out.wav: voice anna1, ")
    assert ", 2.0 s of sound in " in out and out.endswith(" than real time)\n")
    assert "warning: " in err  # four seconds are little
    vc = ssl_vc.VoiceConverter.from_pretrained("model")
    wav = vc.convert("me.wav", vc.enroll(["anna1.wav", "anna2.wav"]))
    ssl_vc.write("by_hand.wav", wav, RATE)
    assert (here / "out.wav").read_bytes() == (here / "by_hand.wav").read_bytes()


def test_json_says_what_was_done(here, run):
    status, out, _ = run("convert", "me.wav", "--target", "anna1.wav", "-o", "out.wav", *MODEL, "--json")
    facts = json.loads(out)
    assert status == 0
    assert [facts[key] for key in ("input", "output", "samples", "sample_rate")] == ["me.wav", "out.wav", 32_000, RATE]
    assert 0 < facts["distance"] < 1
    assert facts["why"].endswith(".")
    assert any("anna1" in warning for warning in facts["warnings"])


def test_several_sources_into_a_folder(here, run):
    status, out, err = run("convert", "missing.wav", "me.wav", "you.wav", "--target", "anna1.wav", "-o", "out", *MODEL)
    assert status == 1
    assert sorted(path.name for path in (here / "out").iterdir()) == ["me.wav", "you.wav"]
    assert out.count("\n") == 2
    assert "error: 'missing.wav' does not exist as a file" in err
    assert err.splitlines()[-1] == "error: 1 of 3 files failed."


def test_by_a_voice_file(here, run):
    build = ("voice", "build", "anna1.wav", "anna2.wav", "-o", "anna.voice", *MODEL)
    status, out, _ = run(*build, "--note", "CC0", "--json")
    facts = json.loads(out)
    assert status == 0
    assert (facts["name"], facts["note"], facts["file"]) == ("anna", "CC0", "anna.voice")
    first = run("convert", "me.wav", "--voice", "anna.voice", "-o", "out.wav", *MODEL)
    made = (here / "out.wav").read_bytes()
    second = run("convert", "me.wav", "--target", "anna1.wav", "anna2.wav", "-o", "out.wav", *MODEL, "--force")
    assert first[0] == second[0] == 0
    assert (here / "out.wav").read_bytes() == made


@pytest.mark.parametrize(
    "options",
    [
        ("--matcher", "knn", "--k", "1"),
        ("--matcher", "smooth"),
        ("--blend", "0.5"),
        ("--speed", "2"),
        ("--loudness", "-30"),
        ("--loudness", "keep"),
        ("--vocoder", "griffin-lim"),
        ("--layer", "1"),
    ],
)
def test_options_change_the_sound(here, run, options):
    base = ("convert", "me.wav", "--target", "anna1.wav", "-o", "out.wav", "--force", *MODEL)
    assert run(*base)[0] == 0
    usual = (here / "out.wav").read_bytes()
    assert run(*base, *options)[0] == 0
    assert (here / "out.wav").read_bytes() != usual


def test_info_tells_what_a_voice_holds(here, run):
    run("voice", "build", "anna1.wav", "anna2.wav", "-o", "anna.voice", *MODEL)
    status, out, err = run("voice", "info", "anna.voice")
    assert status == 0
    for fact in ("name: anna", "seconds: ", "layer", "anna2.wav", "median"):
        assert fact in out
    assert "warning: " in err
    status, out, _ = run("voice", "info", "anna.voice", "--source", "me.wav", *MODEL, "--json")
    assert status == 0
    assert 0 <= json.loads(out)["coverage"] <= 1


def test_mix(here, run):
    run("voice", "build", "anna1.wav", "-o", "anna.voice", *MODEL)
    run("voice", "build", "bert.wav", "-o", "bert.voice", *MODEL)
    mix = ("voice", "mix", "anna.voice", "bert.voice", "-o", "both.voice")
    status, out, _ = run(*mix, "--weights", ".7", ".3", "--json")
    assert status == 0
    assert json.loads(out)["name"] == "70% anna + 30% bert"
    by_hand = ssl_vc.Voice.mix([(ssl_vc.Voice.load("anna.voice"), 0.7), (ssl_vc.Voice.load("bert.voice"), 0.3)])
    assert torch.equal(ssl_vc.Voice.load("both.voice").frames, by_hand.frames)
    assert run("convert", "me.wav", "--voice", "both.voice", "-o", "out.wav", *MODEL)[0] == 0


def test_nothing_is_overwritten(here, run):
    (here / "out.wav").write_bytes(b"mine")
    status, _, err = run("convert", "me.wav", "--target", "anna1.wav", "-o", "out.wav", *MODEL)
    assert (status, err) == (1, "error: out.wav exists; --force overwrites it.\n")
    assert (here / "out.wav").read_bytes() == b"mine"
    clip = (here / "anna1.wav").read_bytes()
    for words in (
        ("convert", "anna1.wav", "--target", "bert.wav", "-o", "anna1.wav", *MODEL),
        ("convert", "me.wav", "--target", "anna1.wav", "-o", "anna1.wav", *MODEL),
        ("voice", "build", "anna1.wav", "-o", "anna1.wav", *MODEL),
        ("voice", "mix", "anna1.wav", "bert.wav", "-o", "anna1.wav"),
    ):
        status, _, err = run(*words, "--force")
        assert (status, err) == (1, "error: anna1.wav is both input and output; write elsewhere.\n")
        assert (here / "anna1.wav").read_bytes() == clip
    (here / "anna.voice").write_bytes(b"mine")
    assert run("voice", "build", "anna1.wav", "-o", "anna.voice", *MODEL)[0] == 1
    assert (here / "anna.voice").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("convert", "me.wav", "-o", "out.wav"), 2, "give the target either by --target REF... or by --voice FILE"),
        (("convert", "me.wav", "--target", "anna1.wav", "--voice", "x", "-o", "out.wav"), 2, "give the target either"),
        (("convert", "--target", "anna1.wav", "-o", "out.wav"), 2, "Missing argument 'SOURCE...'"),
        (("convert", "me.wav", "you.wav", "--target", "bert.wav", "-o", "out.wav"), 2, "one file for 2 sources"),
        (("convert", "me.wav", "--target", "bert.wav", "-o", "out.xyz"), 2, "out.xyz is not an audio file name"),
        (("convert", "me.wav", "--target", "bert.wav", "-o", "no/out.wav"), 1, "the folder no does not exist"),
        (
            ("convert", "me.wav", "--target", "bert.wav", "-o", "out.wav", "--matcher", "no"),
            2,
            "there is no matcher 'no'",
        ),
        (("convert", "me.wav", "you.wav", "--target", "bert.wav", "-o", "bert.wav"), 2, "one file for 2 sources"),
        (("convert", "me.wav", "--target=bert.wav", "you.wav", "-o", "x/out.wav"), 1, "the folder x does not exist"),
        (("convert", "me.wav", "--target", "bert.wav", "-o", "out.wav", "--pitch", "up"), 2, "'up' is neither"),
        (("convert", "me.wav", "--target", "bert.wav", "-o", "out.wav", "--model", "none"), 1, "no model 'none'"),
        (("convert", "no.wav", "--target", "bert.wav", "-o", "out.wav"), 1, "'no.wav' does not exist as a file"),
        (("convert", "me.wav", "--target", "no.wav", "-o", "out.wav"), 1, "'no.wav' does not exist as a file"),
        (("convert", "me.wav", "--voice", "no.voice", "-o", "out.wav"), 1, "there is no voice 'no.voice'"),
        (("convert", "me.wav", "--voice", "bert.wav", "-o", "out.wav"), 2, "bert.wav: that is a sound; use --target"),
        (("convert", "me.wav", "--target", "bert.wav", "-o", "out.wav", "--k", "100000"), 2, "Invalid value for '--k'"),
        (("voice", "build", "no.wav", "-o", "anna.voice"), 1, "'no.wav' does not exist as a file"),
        (("voice", "build", "bert.wav", "-o", "model"), 2, "model is a folder; name a file"),
        (("voice", "mix", "a", "b", "--weights", "1", "-o", "both.voice"), 2, "2 voices need as many weights, not 1"),
        (("voice", "info", "no.voice"), 1, "there is no voice 'no.voice'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(here, run, words, status, message):
    got, out, err = run(*words)
    assert (got, out) == (status, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (here / "out.wav").exists()


@pytest.mark.skipif(os.name == "nt", reason="names are text on Windows")
def test_names_that_are_no_text(here, run):
    name = os.fsdecode(b"m\xe9.wav")
    (here / name).write_bytes((here / "me.wav").read_bytes())
    assert run("convert", name, "--target", "anna1.wav", "-o", "out.wav", "--json", *MODEL)[0] == 0
    (here / name).unlink()
