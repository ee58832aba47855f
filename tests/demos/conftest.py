"""A running demo and a browser; tests are skipped, with a reason, where either is unavailable."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

import ssl_vc

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items):
    if find_spec("gradio") is None or find_spec("plotly") is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="gradio or plotly is not installed (extra demo)"))


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """Two short clips, and files that are unusable."""
    folder = tmp_path_factory.mktemp("sounds")
    for name, sample, seconds in (("source", "source.flac", 3), ("target", "emma.opus", 8)):
        whole = ssl_vc.read(ROOT / "demos" / "samples" / sample)
        ssl_vc.write(folder / f"{name}.wav", whole[: seconds * 16_000], 16_000)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is no sound")
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(folder / "long.flac", np.zeros(11 * 60 * 16_000), 16_000)
    soundfile.write(folder / "nan.wav", np.full(16_000, np.nan), 16_000, "FLOAT")
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of a running `ssl-vc demo`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log, kept = tmp_path_factory.mktemp("demo") / "log", tmp_path_factory.mktemp("kept")
    command = [sys.executable, "-m", "ssl_vc", "demo", "--port", str(port), "--offline", "--device", "cpu"]
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(kept)},
            stdout=output,
            stderr=output,
        ) as process,
    ):
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(address, timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
        else:
            pytest.fail(log.read_text())
        yield address
        process.terminate()
        process.wait(20)
    assert [path for path in kept.rglob("*") if path.is_file()] == [], "uploads are left behind"


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, driven by playwright."""
    if find_spec("playwright") is None:
        pytest.skip("playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("there is no Chromium here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()
