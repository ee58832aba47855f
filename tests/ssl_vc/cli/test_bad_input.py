"""Plain bad input ends in one sentence, not in a hang or in "a bug"."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from pretrain.training import checkpoint
from ssl_vc.batch.jobs import Result
from ssl_vc.batch.run import _read
from ssl_vc.features.extractor import FrameSpec
from ssl_vc.hub.registry import BUNDLED
from ssl_vc.voice.voice import PitchRange, Voice
from vocoder.training.loop import save_checkpoint

resource = pytest.importorskip("resource")  # not on Windows
ROOT = Path(__file__).parents[3]
CONFIGS, SOURCE = ROOT / "configs", ROOT / "demos" / "samples" / "source.flac"
MANY = "9" * 400


@pytest.fixture
def refused(run):
    """Run a command, check that it fails with one sentence, and give that."""

    def call(*arguments):
        status, _, stderr = run(*arguments)
        assert status in (1, 2)
        (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
        assert "a bug" not in line
        return line

    return call


@pytest.fixture
def model(tmp_path):
    """Copy the bundled encoder and vocoder, and give their folder."""
    for part in ("encoder", "vocoder"):
        (tmp_path / "model" / part).mkdir(parents=True)
        for file in (BUNDLED / "tiny" / part).iterdir():
            (tmp_path / "model" / part / file.name).symlink_to(file)
    return tmp_path / "model"


@pytest.mark.parametrize(
    "arguments",
    [
        ("voice", "build", "loop.wav", "-o", "a.voice"),
        ("convert", "loop.wav", "--target", "loop.wav", "-o", "a.wav"),
        ("units", "encode", "loop.wav", "-o", "a.units"),
        ("units", "decode", "loop.units", "-o", "a.wav"),
        ("units", "info", "loop.units"),
        ("speak", "--file", "loop.txt", "-o", "a.wav"),
        ("voice", "info", "loop.voice"),
        ("train-units", "loop.yaml", "-o", "out"),
    ],
)
def test_a_link_to_itself(refused, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (loop,) = {word for word in arguments if word.startswith("loop")}
    (tmp_path / loop).symlink_to(loop)
    assert loop in refused(*arguments)


@pytest.mark.parametrize("what", ["pipe", "/dev/zero"])
@pytest.mark.parametrize("path", ["encoder/config.json", "encoder/model.safetensors", "vocoder/config.json"])
def test_a_model_of_pipes_and_devices(refused, model, tmp_path, what, path):
    os.mkfifo(tmp_path / "pipe")
    (model / path).unlink()
    (model / path).symlink_to(tmp_path / what)
    line = refused("voice", "build", SOURCE, "-o", tmp_path / "a.voice", "--model", model)
    assert f"{path} is a pipe or a device; give a regular file" in line


@pytest.mark.parametrize("part", ["encoder", "vocoder"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000, "config.json is broken (it is nested too deeply)"),
        (f'{{"kind": "vocos", "dim": {MANY}}}', "dim is 999"),
        ('{"kind": "vocos", "reads": null, "dim": 0.5}', "dim is 0.5"),
    ],
)
def test_a_model_with_an_odd_config(refused, model, tmp_path, part, content, reason):
    (model / part / "config.json").unlink()
    (model / part / "config.json").write_text(content)
    assert reason in refused("voice", "build", SOURCE, "-o", tmp_path / "a.voice", "--model", model)


@pytest.mark.parametrize(
    "config",
    [
        "a: !!python/object/apply:os.system [true]",
        "- [",
        "head: 3",
        f"head: {{init_args: {{n_fft: {MANY}}}}}",
        "[" * 1000,
    ],
)
def test_a_foreign_vocoder_with_an_odd_config(refused, tmp_path, config):
    folder = tmp_path / "vocos"
    folder.mkdir()
    torch.save({"backbone.embed.weight": torch.zeros(8, 4, 7)}, folder / "pytorch_model.bin")
    (folder / "config.yaml").write_text(config)
    line = refused("voice", "build", SOURCE, "-o", tmp_path / "a.voice", "--vocoder", folder)
    assert "vocos is not a Vocos for mel spectrograms" in line


def test_a_text_that_never_ends(refused, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        assert "is a pipe or a device" in refused("speak", "--file", path, "-o", tmp_path / "a.wav")


def test_standard_input_that_never_ends(refused, tmp_path, monkeypatch):
    with open("/dev/zero") as endless:  # noqa: PTH123
        monkeypatch.setattr("sys.stdin", endless)
        assert "standard input has more than" in refused("speak", "-", "-o", tmp_path / "a.wav")


@pytest.mark.parametrize("setting", ["train.steps", "seed", "shape.depth", "train.learning_rate"])
def test_a_config_with_a_number_of_400_digits(refused, tmp_path, setting):
    line = refused("pretrain", CONFIGS / "pretrain" / "debug.yaml", "-o", tmp_path / "out", f"{setting}={MANY}")
    assert f"{setting} has 400 digits; a whole number has at most 18" in line


def test_a_seed_of_400_digits(refused, tmp_path):
    assert "--seed" in refused("speak", "hello", "-o", tmp_path / "a.wav", "--seed", MANY)


def test_a_configuration_of_gigabytes(refused, tmp_path):
    (tmp_path / "a.yaml").touch()
    os.truncate(tmp_path / "a.yaml", 2**33)
    assert "has 8589934592 bytes" in refused("pretrain", tmp_path / "a.yaml", "-o", tmp_path / "out")


def voice(width, **changes):
    """Returns a voice whose frames for synthesis have this width."""
    spec = FrameSpec("0" * 16, 1, False, 4)
    values = {"frames": torch.zeros(8, 4), "spec": spec, "synthesis": torch.zeros(8, width), "synthesis_spec": {}}
    return Voice(**values | changes)


def test_voices_of_different_widths(refused, tmp_path):
    paths = [voice(width).save(tmp_path / f"{width}.voice") for width in (3, 5)]
    for order in (paths, paths[::-1]):
        assert "are for different vocoders" in refused("voice", "mix", *order, "-o", tmp_path / "mix.voice")


def test_a_voice_with_a_number_of_400_digits(refused, tmp_path):
    path = voice(3, pitch=PitchRange(int(MANY), 1.0, 1.0, 1.0)).save(tmp_path / "a.voice")
    assert "the median of pitch is 999" in refused("voice", "info", path)


def test_odd_lines_of_a_report(tmp_path):
    """A report that somebody edited: what is no row of ours is skipped, as truncated lines are."""
    row = Result("a.wav", "b.voice", "out.wav", "done")
    odd = [{"output": ["out.wav"]}, {"warnings": [1]}, {"warnings": None}, {"state": 5}, {"error": None}, {"job": {}}]
    lines = [json.dumps(row._replace(**change)._asdict()) for change in odd]
    lines += ["3", "[1]", "null", "{}", "[" * 100_000, f'{{"output": {"9" * 5000}}}', json.dumps(row._asdict())]
    (tmp_path / "report.jsonl").write_text("\n".join(lines))
    assert [each._replace(warnings=()) for each in _read(tmp_path / "report.jsonl")] == [row]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is a pipe or a device"):
        list(_read(tmp_path / "pipe"))


@pytest.mark.parametrize(
    "save", [checkpoint.save, lambda file, state: save_checkpoint(state, file)], ids=["pretrain", "vocoder"]
)
def test_a_checkpoint_on_a_full_disk(tmp_path, save):
    file, before = tmp_path / "state.pt", resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"state\.pt cannot be written: File too large; check its disk\.$"):
            save(file, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_configuration_of_one_value_is_refused(run, tmp_path):
    (tmp_path / "five.yaml").write_text(" 500\n")
    status, _, err = run("pretrain", tmp_path / "five.yaml", "-o", tmp_path / "out")
    assert status == 2 and "five.yaml: it must be a mapping of names to values" in err
