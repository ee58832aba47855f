"""Settings of a process: each is made once, and none is taken from the user."""

import os
import subprocess
import sys

import pytest
import torch

from ssl_vc import process

SCRIPT = """
import os, sys
from ssl_vc.cli import main
try:
    main(["models", "list"])
except SystemExit:
    pass
print(os.environ["OMP_WAIT_POLICY"], file=sys.stderr)
"""


@pytest.mark.parametrize(("ours", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_a_command_waits_passively_unless_told_otherwise(ours, expected):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": ours} if ours else {}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == expected


def test_commands_do_not_load_torch_before_that():
    code = "import sys, ssl_vc.cli, ssl_vc.process; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_threads_are_set_and_given_back():
    before = torch.get_num_threads()
    process.set_threads(None)
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="stop"), process.threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ValueError("stop")
    assert torch.get_num_threads() == before


def test_inference_keeps_few_kernels(monkeypatch):
    first, second = process.KERNEL_CACHES
    monkeypatch.setattr(process.os, "environ", {first: "5"})
    process.prepare_inference()
    assert process.os.environ == {first: "5", second: str(process.SHAPES)}
