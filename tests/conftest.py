import json
import os
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # or torch's threads spin when the cores are shared: 10x slower

import pytest
import torch
from safetensors.torch import load_file

from ssl_vc.cli import main

GOLDEN = Path(__file__).parent / "golden"
torch.set_num_threads(2)


@pytest.fixture
def golden():
    """Load one golden case: `.config`, `.weights`, `.input` and `.output`, keyed as their files name them."""

    def load(name):
        parts = {"weights": {}, "input": {}, "output": {}}
        if (GOLDEN / f"{name}.safetensors").exists():
            for key, value in load_file(GOLDEN / f"{name}.safetensors").items():
                kind, rest = key.split(".", 1)
                parts[kind][rest] = value
        facts = GOLDEN / f"{name}.json"
        case = json.loads(facts.read_text()) if facts.exists() else {}
        return SimpleNamespace(config=case.get("config"), shapes=case.get("shapes"), **parts)

    return load


@pytest.fixture
def run(capsys):
    """Run a command as the shell would, and give (status, stdout, stderr)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call
