"""The Dockerfile, as far as it can be tested without building it: its files, its versions and the command it tries."""

import json
import re
import shlex
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STEPS = [line.split(maxsplit=1) for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def steps(kind):
    return [shlex.split(rest) for name, rest in STEPS if name == kind]


def test_it_copies_all_that_the_package_is_built_from():
    copied = {source for *sources, _ in steps("COPY") for source in sources}
    assert all((ROOT / source).exists() for source in copied)
    packages = {name.removesuffix("*") for name in pyproject()["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert copied == packages | {"configs", "pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]}
    kept = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(kept) == copied  # of all else, the build is told nothing


def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_it_installs_the_torch_that_the_package_takes():
    (wanted,) = (each for each in PROJECT["dependencies"] if each.startswith("torch"))
    assert sum(wanted in command for command in steps("RUN")) == 1
    (python,) = (rest[0].partition("=")[2] for rest in steps("ARG") if rest[0].startswith("PYTHON="))
    assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]


def test_it_converts_as_readme_says_without_a_network():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"\.venv/bin/(ssl-vc convert .*)", readme)
    assert f"RUN --network=none {command}\n" in TEXT


def test_it_runs_the_command_and_names_no_host():
    (entry,) = (json.loads(rest) for name, rest in STEPS if name == "ENTRYPOINT")
    assert entry == list(PROJECT["scripts"])
    assert "://" not in TEXT
