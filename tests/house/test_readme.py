"""Every block of README.md runs, in the order it stands there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ssl_vc

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SETUPS = [text for kind, text in BLOCKS if text.startswith("python3 -m venv")]


def run(command, folder):
    scripts = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": scripts + os.pathsep + os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the blocks run: with what the first command leaves behind, less its setting up, and two recordings."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "configs", folder / "configs")  # a reader stands in the repository
    shutil.copytree(ROOT / "demos" / "samples", folder / "demos" / "samples")
    job = SETUPS[0].split(" && ")[2].replace(".venv/bin/", "")
    assert "converted.wav" in run(["bash", "-euc", job], folder)
    for name, sample in (("clip", "source.flac"), ("target", "emma.opus")):  # the reader's own recordings, shorter
        ssl_vc.write(folder / f"{name}.wav", ssl_vc.read(folder / "demos" / "samples" / sample)[:48_000], 16_000)
    return folder


def test_two_commands_set_up_and_ci_runs_both():
    assert len(SETUPS) == len(re.findall("^python3 -m venv", README, re.MULTILINE)) == 2
    assert all(text.count("\n") == 1 for text in SETUPS)
    assert "grep '^python3 -m venv' README.md" in (ROOT / ".ci" / "run").read_text()
    assert ".ci/check" in SETUPS[1]


def test_every_block_is_of_a_kind_that_runs():
    assert {kind for kind, _ in BLOCKS} <= {"sh", "python"}
    assert len(BLOCKS) >= 5


def test_blocks_run(folder):
    for kind, text in BLOCKS:
        if text not in SETUPS:
            run([sys.executable, "-c", text] if kind == "python" else ["bash", "-euc", text], folder)
