"""Fault injection: a command whose disk is full says so in one line, and what it leaves behind loads.

By default the quick commands meet one fault of each kind; with SSL_VC_FUZZ_SECONDS all commands meet all of them.
"""

import csv
import errno
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import ssl_vc
from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc.units.file import Units
from ssl_vc.voice.voice import Voice
from vocoder import Vocos
from vocoder.vocos import VocosConfig

resource = pytest.importorskip("resource")  # not on Windows
CONFIGS = Path(__file__).parents[2] / "configs"
THOROUGH = bool(os.environ.get("SSL_VC_FUZZ_SECONDS"))
COMMANDS = {
    "extract": "extract a.wav -o out --model encoder --layer 1",
    "convert": "convert a.wav --voice anna.voice -o out/a.wav --model untrained --vocoder griffin-lim",
    "mix": "voice mix anna.voice bert.voice -o out/both.voice",
    "encode": "units encode a.wav -o out/a.units",
    "copy-synth": "copy-synth a.wav -o out/a.flac --features mel --vocoder griffin-lim",
    "convert-several": "convert a.wav b.wav --voice anna.voice -o out --model untrained --vocoder griffin-lim",
    "build": "voice build a.wav -o out/a.voice --model untrained --vocoder griffin-lim",
    "decode": "units decode a.units -o out/a.opus",
    "speak": "speak Hello. -o out/a.mp3 --target b.wav",
    "batch": "batch jobs.csv -o out --model untrained --vocoder griffin-lim",
    "grid": "copy-synth a.wav -o out/grid --grid",
    "evaluate": "evaluate pairs.csv -o out --model untrained --vocoder griffin-lim --recogniser none --verifier none",
    "label": "label clips -o out --clusters 8",
    "prematch": "prematch clips -o out --model encoder --features ssl",
    "pretrain": "pretrain pretrain.yaml -o out clips=clips train.steps=2 train.seconds=4 train.workers=0",
    "train-vocoder": "train-vocoder vocoder.yaml -o out clips=clips steps=2 batch=2 adversarial_from=1 workers=0",
    "train-units": "train-units units.yaml -o out clips=clips encoder=encoder",
    "train-tts": "train-tts tts.yaml -o out clips=clips/clips.tsv model=model dictionary=words.dict",
}
RESUMED = "label", "prematch", "pretrain", "train-vocoder", "train-units", "train-tts"
QUICK = list(COMMANDS)[:5]
FAULTS = {"bytes": (0, 1000, 30_000), "renames": (1, 3, 1000)}
CASES = [
    (command, kind, number)
    for command in (COMMANDS if THOROUGH else QUICK)
    for kind, numbers in FAULTS.items()
    for number in (numbers if THOROUGH else numbers[:1])
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, speech):
    """A folder with what the commands need."""
    folder = tmp_path_factory.mktemp("inputs")
    clips = folder / "clips"
    clips.mkdir()
    rows = ["path\tspeaker\ttext\tseconds"]
    for number, word in enumerate(("one", "two", "one two", "two one")):
        ssl_vc.write(clips / f"{number}.wav", speech(1.5, pitch=100 + 40 * number, text=number), 16_000)
        rows.append(f"{number}.wav\tanna\t{word}\t1.5")
    (clips / "clips.tsv").write_text("\n".join(rows) + "\n")
    for name, clip in (("a", 0), ("b", 1)):
        shutil.copy(clips / f"{clip}.wav", folder / f"{name}.wav")
    (folder / "jobs.csv").write_text("source,target,name\na.wav,b.wav,one\nb.wav,a.wav,two\n")
    (folder / "pairs.csv").write_text("source,target,name\na.wav,b.wav,one\nb.wav,a.wav,two\n")
    (folder / "words.dict").write_text("one W AH1 N\ntwo T UW1\n")
    vc = ssl_vc.VoiceConverter.from_pretrained("untrained", vocoder="griffin-lim", device="cpu")
    vc.enroll([folder / "a.wav"], name="anna").save(folder / "anna.voice")
    vc.enroll([folder / "b.wav"], name="bert").save(folder / "bert.voice")
    ssl_vc.UnitCodec.from_pretrained("tiny").encode(folder / "a.wav").save(folder / "a.units")
    write_models(folder)
    return folder


def write_models(folder):
    torch.manual_seed(0)
    shape = {"conv_dim": 16, "dim": 16, "depth": 1, "heads": 2, "ffn_dim": 32, "pos_groups": 2, "matching_layer": 1}
    SpeechEncoder(EncoderConfig.tiny(**shape)).save_pretrained(folder / "encoder")
    shutil.copytree(folder / "encoder", folder / "model" / "encoder")
    extractor = ssl_vc.Extractor.from_pretrained(str(folder / "encoder"), device="cpu")
    reads = extractor.spec.feature_spec
    Vocos(VocosConfig(dim=16, width=16, ffn_dim=16, depth=1, reads=reads)).save_pretrained(folder / "model" / "vocoder")
    shutil.copy(CONFIGS / "pretrain" / "debug.yaml", folder / "pretrain.yaml")
    shutil.copy(CONFIGS / "vocoder" / "mel-vocos-small.yaml", folder / "vocoder.yaml")
    small = "shape: {width: 16, ffn_dim: 32, depth: 1, harmonic: true}, segment: 40, batch: 2, steps: 2, workers: 0"
    (folder / "units.yaml").write_text(
        f"clusters: 8\npitches: 5\nprosody_steps: 2\nvocoder: {{{small}, adversarial_from: 9}}\n"
    )
    shape = "{width: 16, depth: 1, decoder_width: 16, decoder_depth: 1}"
    (folder / "tts.yaml").write_text(f"g2p_steps: 2\nsteps: 2\nbatch: 2\nshape: {shape}\n")


@contextmanager
def full_disk(monkeypatch, kind, number):
    """No file grows beyond so many bytes, or the n-th file that is renamed finds no space."""
    fault = SimpleNamespace(met=kind == "bytes" and not number, renames=0)

    def rename(real):
        def call(*arguments, **options):
            fault.renames += 1
            if fault.renames == number:
                fault.met = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[1]))
            return real(*arguments, **options)

        return call

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        if kind == "renames":
            patch.setattr(os, "replace", rename(os.replace))
            patch.setattr(os, "rename", rename(os.rename))
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (number, limits[1]))
        try:
            yield fault
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def check_table(path, delimiter):
    text = path.read_text(encoding="utf-8")
    header, *rows = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    assert text.endswith("\n") and {len(row) for row in rows} <= {len(header)}


def check_log(path):
    """A log is appended to; its reader skips a last line that is cut."""
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        assert not line.endswith("\n") or json.loads(line)


def check_page(path):
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


LOADERS = {
    **dict.fromkeys((".wav", ".flac", ".opus", ".mp3"), ssl_vc.read),
    ".voice": Voice.load,
    ".units": Units.load,
    ".safetensors": load_file,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".jsonl": check_log,
    ".yaml": lambda path: yaml.safe_load(path.read_text(encoding="utf-8")),
    ".csv": lambda path: check_table(path, ","),
    ".tsv": lambda path: check_table(path, "\t"),
    ".html": check_page,
    ".svg": ElementTree.parse,
    ".npy": np.load,
    ".md": lambda path: path.read_text(encoding="utf-8"),
    **dict.fromkeys(("", ".i16", ".u16", ".f16"), np.fromfile),  # which the next run checks
    ".pt": lambda path: torch.load(path, weights_only=True),
}


@pytest.mark.parametrize(("command", "kind", "number"), CASES)
def test_a_full_disk(run, inputs, tmp_path, monkeypatch, command, kind, number):
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    with full_disk(monkeypatch, kind, number) as fault:
        status, _, error = run(*COMMANDS[command].split())
    errors = [line for line in error.splitlines() if line.startswith("error: ")]
    assert "(a bug" not in error and "Traceback" not in error, error
    assert (status != 0) == bool(errors), error
    assert (status != 0) == fault.met or (kind == "bytes" and number), error
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and not path.name.startswith("events.out.tfevents"):  # which TensorBoard appends to
            assert path.suffix in LOADERS, path
            LOADERS[path.suffix](path)
    if command in RESUMED:
        resume = ["--resume"] if "train" in command else []
        status, _, error = run(*COMMANDS[command].split(), *resume)
        assert status == 0, error
