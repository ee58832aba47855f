"""What is published works by itself: the sdist, the wheel built from it, and the command outside of the checkout."""

import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("build")
ROOT = Path(__file__).parents[2]
PACKAGES = ("ssl_vc", "pretrain", "vocoder", "demos")
FILES = ("pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The sdist, and the wheel that is built from it, of a copy: building leaves files behind."""
    copy, dist = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(copy)], copy)
    return dist


def run(command, folder, **environment):
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_sdist_and_wheel_hold_every_file_of_the_packages(dist):
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    kept = {".py", ".typed", ".safetensors", ".json", ".flac", ".opus"}
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in kept)
    wanted = {path.relative_to(ROOT).as_posix() for path in files}
    wanted |= {f"ssl_vc/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        assert wanted | set(FILES) <= names
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert wanted <= set(names)
        assert {name.split("/")[0].split("-")[0] for name in names} == {*PACKAGES}
        metadata = email.message_from_bytes(archive.read(next(name for name in names if name.endswith("/METADATA"))))
    assert metadata["Name"] == "ssl-vc" and metadata["License-Expression"] == "MIT"


def test_the_wheel_converts_outside_of_the_checkout(dist, tmp_path):
    (wheel,), site = dist.glob("*.whl"), tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile"]
    run([*pip, "--target", str(site), str(wheel)], tmp_path)
    where = {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    imported = (
        "import ssl_vc, pretrain, vocoder, demos; print(*(m.__file__ for m in (ssl_vc, pretrain, vocoder, demos)))"
    )
    paths = run([sys.executable, "-c", imported], tmp_path, **where).split()
    assert [Path(path).parent for path in paths] == [site / package for package in PACKAGES]
    samples = site / "demos" / "samples"
    words = ["convert", str(samples / "source.flac"), "--target", str(samples / "emma.opus"), "-o", "out.wav"]
    run([str(site / "bin" / "ssl-vc"), *words, "--offline", "--device", "cpu"], tmp_path, **where)
    source, converted = soundfile.info(samples / "source.flac"), soundfile.info(tmp_path / "out.wav")
    assert abs(converted.duration - source.duration) < 0.02
