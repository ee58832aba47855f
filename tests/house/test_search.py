"""The words of the papers lead to the code: by the name of a file, or by the first line of its docstring."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ssl_vc", "pretrain", "vocoder")
HOMES = {
    "kNN matcher": "ssl_vc/match/knn.py",
    "F0": "vocoder/pitch.py",
    "k-means codebook": "ssl_vc/units/codebook.py",
    "flow matching": "ssl_vc/tts/flow_matching.py",
    "duration": "ssl_vc/tts/duration.py",
    "G2P": "ssl_vc/tts/g2p.py",
    "discriminator": "vocoder/training/discriminators.py",
    "contrastive": "pretrain/objectives/frame_contrast.py",
    "probe": "pretrain/probing/probe.py",
    "prosody": "ssl_vc/conversion/prosody.py",
}


def letters(text):
    return re.sub(r"[^a-z0-9 ]", "", re.sub(r"[_/.]", " ", text.lower().replace("-", "")))


def found(words):
    """The files whose name or first line has all of some words."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
            name = path.relative_to(ROOT).as_posix()
            if all(word in letters(f"{name} {first}") for word in letters(words).split()):
                yield name


@pytest.mark.parametrize(("words", "home"), HOMES.items())
def test_search_words_lead_to_a_file(words, home):
    assert home in set(found(words))
