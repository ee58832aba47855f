"""Hub ids: what the hub's cache holds is found without a network, and what it lacks is said in one sentence."""

import os
import subprocess
import sys

import pytest
import torch

from pretrain import EncoderConfig, SpeechEncoder


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    shape = {"conv_dim": 16, "dim": 128, "depth": 2, "heads": 2, "ffn_dim": 64, "pos_kernel": 8, "pos_groups": 4}
    return SpeechEncoder(EncoderConfig.wavlm_base(**shape))


def snapshot(home, repository):
    """The folder in which the hub's cache keeps a repository."""
    base = home / "hub" / f"models--{repository.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(commit)
    (base / "snapshots" / commit).mkdir(parents=True)
    return base / "snapshots" / commit


def fingerprint(home, name):
    code = f"from ssl_vc.hub.registry import load_encoder; print(load_encoder({name!r}).fingerprint(2))"
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


def test_ours_and_theirs_are_found_in_the_cache(tmp_path, encoder):
    encoder.save_pretrained(snapshot(tmp_path, "somebody/ours"))
    encoder.save_transformers(snapshot(tmp_path, "somebody/theirs"))
    for name in ("somebody/ours", "somebody/theirs"):
        done = fingerprint(tmp_path, name)
        assert done.stdout.strip() == encoder.fingerprint(2), done.stderr


def test_an_unknown_model_is_an_error(tmp_path):
    done = fingerprint(tmp_path, "nobody/nothing")
    assert done.returncode == 1
    assert "nobody/nothing is neither a folder nor in the cache of the hub, and downloads are off" in done.stderr
