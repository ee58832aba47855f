"""Audio of all pairs: what stops an evaluation, and what only fails a pair."""

import errno
import os

import pytest
import torch

import ssl_vc
from ssl_vc.audio import AudioError
from ssl_vc.evaluate.generate import generate
from ssl_vc.evaluate.pairs import read_pairs
from ssl_vc.evaluate.systems import Audio, System


class Tone(System):
    """Returns a tone for every pair, or what cannot be written for the first."""

    name, description, converts = "tone", "a tone", False

    def __call__(self, pair):
        return Audio(torch.full((1600,), float("nan") if pair.name == "one" else 0.1), 16_000)


@pytest.fixture
def pairs(tmp_path):
    for name in "ab":
        ssl_vc.write(tmp_path / f"{name}.wav", torch.full((1600,), 0.1), 16_000)
    a, b = tmp_path / "a.wav", tmp_path / "b.wav"
    (tmp_path / "pairs.csv").write_text(f"source,target,name\n{a},{b},one\n{b},{a},two\n")
    return read_pairs(tmp_path / "pairs.csv")


def test_audio_that_cannot_be_written_fails_its_pair(pairs, tmp_path):
    outcomes, _ = generate(pairs, Tone(), None, tmp_path / "out", lambda items, _: items)
    assert [outcome.failed for outcome in outcomes] == [True, False]


def test_a_full_disk_stops_the_evaluation(pairs, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(AudioError, match="No space left on device"):
        generate(pairs, Tone(), None, tmp_path / "out", lambda items, _: items)
