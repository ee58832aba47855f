"""`torch.hub.load` finds the models of this repository."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import torch

import ssl_vc

ROOT = Path(__file__).parents[2]
ENTRIES = {
    "ssl_vc": (ssl_vc.VoiceConverter, {"device": "cpu"}),
    "text_to_speech": (ssl_vc.TextToSpeech, {"device": "cpu"}),
    "unit_codec": (ssl_vc.UnitCodec, {"device": "cpu"}),
}


def load(*arguments, **options):
    return torch.hub.load(str(ROOT), *arguments, source="local", **options)


def test_the_hub_lists_the_entries_and_nothing_else():
    """By the rule of `torch.hub.list`, which takes no local folder."""
    module = runpy.run_path(str(ROOT / "hubconf.py"))
    listed = {name: value for name, value in module.items() if callable(value) and not name.startswith("_")}
    assert set(listed) == {*ENTRIES, "knn_vc"}
    assert all(entry.__doc__ for entry in listed.values())


@pytest.mark.parametrize("name", ENTRIES)
def test_the_hub_loads_a_model(name):
    kind, options = ENTRIES[name]
    assert isinstance(load(name, **options), kind)


@pytest.mark.parametrize(("prematched", "model"), [(True, "knn-vc"), (False, "knn-vc-plain")])
def test_knn_vc_is_one_of_the_published_models(monkeypatch, prematched, model):
    monkeypatch.setattr(ssl_vc.VoiceConverter, "from_pretrained", lambda name, **options: (name, options))
    assert load("knn_vc", prematched, offline=True) == (model, {"offline": True})


def test_its_dependencies_are_those_of_the_package(monkeypatch):
    """As the hub checks them: by the names of their modules."""
    text = (ROOT / "hubconf.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"(\w+)"', re.search(r"^dependencies = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)[1]))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert named == {re.match(r"\w+", each)[0] for each in project["dependencies"]} - {"typer"}  # of the command line
