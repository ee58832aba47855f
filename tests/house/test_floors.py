"""Imports point down: demos -> ssl_vc -> (pretrain | vocoder), and no two modules import each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BELOW = {
    "demos": {"demos", "ssl_vc"},
    "ssl_vc": {"ssl_vc", "pretrain", "vocoder"},
    "pretrain": {"pretrain"},
    "vocoder": {"vocoder"},
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in BELOW
    for path in (ROOT / package).rglob("*.py")
}


def imported(path):
    """Every name a file imports, wherever in the file, as module.name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(name):
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def test_the_house_is_there():
    assert {"pretrain.encoder.model", "ssl_vc.features.extractor", "vocoder"} <= set(MODULES)


@pytest.mark.parametrize("package", BELOW)
def test_floors(package):
    for name, path in MODULES.items():
        if name.split(".")[0] == package:
            ours = {other.split(".")[0] for other in imported(path)} & set(BELOW)
            assert ours <= BELOW[package], f"{name} imports {ours - BELOW[package]}, which is above or beside it"


def test_no_two_modules_import_each_other():
    above = {name: {module_of(other) for other in imported(path)} - {"", name} for name, path in MODULES.items()}
    lazy = {"ssl_vc"}  # its names load on first use

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        for other in above[name] - lazy:
            visit(other, [*trail, name])

    for name in above:
        visit(name, [])


def test_no_module_without_a_subject():
    stems = {path.stem for path in MODULES.values()}
    assert not stems & {"utils", "util", "helpers", "common", "misc", "core", "base", "tools", "functions"}


def test_files_stay_short():
    long = {name: n for name, path in MODULES.items() if (n := len(path.read_text().splitlines())) > 300}
    assert not long, "split these: " + str(long)


def test_nothing_prints():
    for name, path in MODULES.items():
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], name
