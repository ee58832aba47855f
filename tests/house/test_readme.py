"""Every block of the manuals runs, in the order in which it stands there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ssl_vc
from pretrain.data.manifest import read_manifest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *(f"{folder}/README.md" for folder in ("ssl_vc", "pretrain", "vocoder", "demos", "configs")))
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
# console: what installs, and servers; text: drawings
BLOCKS = {page: re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for page, text in TEXTS.items()}
SETUPS = [text for _, text in BLOCKS["README.md"] if text.startswith("python3 -m venv")]
CLIENT = "gradio_client"  # its blocks need a server: tests/demos/test_client.py runs them


def run(command, folder):
    scripts = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": scripts + os.pathsep + os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    """A reader's folder: the repository's configurations and samples, and two recordings."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copytree(ROOT / "demos" / "samples", tmp_path / "demos" / "samples")
    for name, sample in (("clip", "source.flac"), ("target", "emma.opus")):
        ssl_vc.write(tmp_path / f"{name}.wav", ssl_vc.read(ROOT / "demos" / "samples" / sample)[:48_000], 16_000)
    return tmp_path


@pytest.fixture
def corpora(folder):
    """Two clips of each corpus that configs/README.md names, as it lays them out."""
    clip = ssl_vc.read(folder / "clip.wav")[:16_000]
    for name, text in (
        ("LibriSpeech/train-clean-100/19/198/19-198.trans.txt", '19-198-0000 HE SAID "SO\n19-198-0001 AND LEFT\n'),
        ("VCTK-Corpus-0.92/txt/p225/p225_001.txt", "Please call Stella.\n"),
        ("VCTK-Corpus-0.92/txt/p226/p226_001.txt", "Please call Stella.\n"),
        ("VCTK-Corpus-0.92/txt/p226/p226_002.txt", "This one has no recording.\n"),
        ("LJSpeech-1.1/metadata.csv", 'LJ001-0001|No. 1|Number "one\nLJ001-0002|the 2nd|the second\n'),
        ("speech/anna/1.txt", "one\n  two\n"),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name in (
        "LibriSpeech/train-clean-100/19/198/19-198-0000.flac",
        "LibriSpeech/train-clean-100/19/198/19-198-0001.flac",
        "VCTK-Corpus-0.92/wav48_silence_trimmed/p225/p225_001_mic1.flac",
        "VCTK-Corpus-0.92/wav48_silence_trimmed/p226/p226_001_mic1.flac",
        "LJSpeech-1.1/wavs/LJ001-0001.wav",
        "LJSpeech-1.1/wavs/LJ001-0002.wav",
        "speech/anna/1.wav",
        "speech/bert/1.wav",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        ssl_vc.write(folder / name, clip, 16_000)
    return folder


def run_blocks(page, folder):
    for kind, text in BLOCKS[page]:
        if kind in ("sh", "python") and text not in SETUPS and CLIENT not in text:
            run([sys.executable, "-c", text] if kind == "python" else ["bash", "-euc", text], folder)


def test_two_commands_set_up_and_ci_runs_both():
    assert len(SETUPS) == len(re.findall("^python3 -m venv", TEXTS["README.md"], re.MULTILINE)) == 2
    assert all(text.count("\n") == 1 for text in SETUPS)
    assert "grep '^python3 -m venv' README.md" in (ROOT / ".ci" / "run").read_text()
    assert ".ci/check" in SETUPS[1]


def test_the_first_command_converts(folder):
    job = SETUPS[0].split(" && ")[2].replace(".venv/bin/", "")
    assert "converted.wav" in run(["bash", "-euc", job], folder)


def test_every_block_is_of_a_kind_that_runs():
    blocks = [block for page in PAGES for block in BLOCKS[page]]
    assert {kind for kind, _ in blocks} == {"sh", "python", "console", "text"}
    assert all(re.fullmatch(r"((pip install|ssl-vc demo).*\n)+", text) for kind, text in blocks if kind == "console")
    assert sum(CLIENT in text for _, text in blocks) == 1
    for page in PAGES:
        assert BLOCKS[page] and TEXTS[page].count("```") == 2 * len(BLOCKS[page]), page


def test_readme_is_one_page_of_what_matters():
    assert TEXTS["README.md"].count("\n") <= 180


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_somewhere(page):
    path = ROOT / page
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        name, _, section = link.partition("#")
        if not link.startswith("https://"):
            target = path.parent / name if name else path
            assert target.exists(), link
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if section else []
            assert not section or section in {heading.lower().replace(" ", "-") for heading in headings}, link


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith(("configs", "demos"))])
def test_blocks_run(page, folder):
    run_blocks(page, folder)


def test_manifests_of_open_corpora(corpora):
    run_blocks("configs/README.md", corpora)

    def listed(root, split):
        clips = read_manifest(corpora / root / "manifest.tsv", split)
        return [(clip.path.name, clip.speaker, clip.text) for clip in clips]

    assert listed("LibriSpeech", "train") == [
        ("19-198-0000.flac", "19", 'he said "so'),
        ("19-198-0001.flac", "19", "and left"),
    ]
    assert listed("VCTK-Corpus-0.92", "dev") == [("p225_001_mic1.flac", "p225", "Please call Stella.")]
    assert listed("VCTK-Corpus-0.92", "train") == [("p226_001_mic1.flac", "p226", "Please call Stella.")]
    assert listed("LJSpeech-1.1", "dev") == [("LJ001-0001.wav", "LJ", 'Number "one')]
    assert listed("LJSpeech-1.1", "train") == [("LJ001-0002.wav", "LJ", "the second")]
    assert listed("speech", "dev") == [("1.wav", "anna", "one two")]
    assert listed("speech", "train") == [("1.wav", "bert", "")]
