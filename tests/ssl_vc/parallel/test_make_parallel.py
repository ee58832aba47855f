"""A corpus of parallel speech: what is drawn, made, listed, continued and refused, also by the command."""

import csv
import json
import zlib
from dataclasses import replace

import pytest
import soundfile
import torch

from pretrain.data.manifest import read_manifest
from ssl_vc.parallel.corpus import CorpusConfig, draw_clips, draw_speakers, synthesize_corpus
from ssl_vc.parallel.g2p import G2P
from ssl_vc.parallel.kokoro import mixture_name

VOICES = ["af_ada", "am_bob", "bf_cat"]
TEXTS = ["One.", "Two words.", "And three words.", "Four it is, then.", "Five of them is enough."]
READER = G2P("letters 1", lambda text: [text.lower()])
CONFIG = CorpusConfig(speakers=8)


def test_speakers_are_the_voices_and_then_mixtures_without_those_held_out():
    config = CorpusConfig(speakers=40, without=("bf_cat",))
    names = [*VOICES, "am_dan", "am_eli"]
    speakers = draw_speakers(names, config)
    assert speakers[:4] == [{name: 1.0} for name in names if name != "bf_cat"]
    assert len(speakers) == 40 and {len(mixture) for mixture in speakers[4:]} == {2, 3}
    assert all("bf_cat" not in mixture and sum(mixture.values()) == pytest.approx(1, abs=0.02) for mixture in speakers)
    assert draw_speakers(names, config) == speakers != draw_speakers(names, replace(config, seed=1))
    few = draw_speakers([f"v{n}" for n in range(50)], CorpusConfig(speakers=4))
    assert len(few) == 4 and few != [{f"v{n}": 1.0} for n in range(4)]  # not only those that the alphabet has first


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"only": ("eve",)}, "there is no voice 'eve'; possible are af_ada, am_bob, bf_cat"),
        ({"without": ("eve",)}, "there is no voice 'eve'; possible are"),
        ({"without": tuple(VOICES)}, "no voice is left to draw from"),
        ({"only": ("af_ada",)}, "af_ada alone cannot make 3 voices"),
        ({"voices": 3, "speakers": 2}, "3 voices of 2 speakers is impossible"),
        ({"speeds": (1.2, 0.9)}, "speeds are 1.2 to 0.9; use two from 0.5 to 2, ascending"),
    ],
)
def test_a_draw_that_cannot_be_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        draw_speakers(VOICES, CorpusConfig(**options))


def lines_of(count, skip=0, config=CONFIG, texts=TEXTS):
    return draw_clips(texts, draw_speakers(VOICES, config), config, skip, count)


def test_what_is_drawn_of_a_sentence_does_not_depend_on_how_many_there_are():
    assert lines_of(2) + lines_of(3, skip=2) == lines_of(5) == lines_of(99)
    assert sorted({line.text for line in lines_of(5)}) == sorted(TEXTS)
    for line in lines_of(5):
        assert line.prosody == lines_of(1, skip=line.sentence)[0].timbre and 0.85 <= line.speed <= 1.15


class Synthesizer:
    """A stand-in whose length is of phones, prosody and speed, and whose sound is of the timbre."""

    digest, voices = "abc", VOICES

    def __init__(self, breaks_at="?"):
        self.calls, self.breaks_at = 0, breaks_at

    def synthesize(self, phones, timbre, prosody, speed):
        self.calls += 1
        if self.breaks_at in phones:
            raise ValueError("it breaks.")
        samples = round((50_000 + 100 * len(mixture_name(prosody)) + 100 * len(phones)) / speed)
        return torch.linspace(0, zlib.crc32(mixture_name(timbre).encode()) / 2**32, samples)


def make(folder, lines, *, model=None, config=CONFIG, reader=READER, workers=1):
    model = model or Synthesizer()
    assert sorted(synthesize_corpus(lines, folder, model, reader, config, workers)) == sorted(lines)
    return model.calls


def table(file):
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def corpus(tmp_path):
    make(tmp_path / "corpus", lines_of(2))
    return tmp_path / "corpus"


def test_a_corpus_is_read_by_training(corpus):
    lines = lines_of(2)
    clips = read_manifest(corpus / "manifest.tsv")
    told = [(line.path, mixture_name(line.timbre), line.text, "en") for line in lines]
    assert [(clip.key, clip.speaker, clip.text, clip.language) for clip in clips] == told
    paired = read_manifest(corpus / "pairs.tsv")
    assert [clip._replace(source=None) for clip in paired] == clips
    for clip, line in zip(paired, lines, strict=True):
        assert clip.source != clip.path and clip.source.name[:5] == clip.key[:5]
        expected = Synthesizer().synthesize(line.text.lower(), line.timbre, line.prosody, line.speed)
        assert [soundfile.info(file).frames for file in (clip.source, clip.path)] == [len(expected)] * 2
        assert soundfile.read(clip.path)[0].max() == pytest.approx(float(expected.max()), abs=1e-3)
    assert len({clip.source for clip in paired}) == 6


def test_a_corpus_is_continued_and_extended(corpus, tmp_path):
    (corpus / "00001_2.flac").unlink()
    assert make(corpus, lines_of(2)) == 1
    assert make(corpus, lines_of(3, skip=2)) == 9
    make(tmp_path / "whole", lines_of(5), workers=2)
    assert contents(corpus) == contents(tmp_path / "whole")


def test_what_was_made_otherwise_is_refused(corpus):
    before = contents(corpus)
    for other in ({"config": CorpusConfig(speakers=8, seed=1)}, {"reader": G2P("letters 2", READER.phonemize)}):
        with pytest.raises(ValueError, match=r"corpus is not empty, and its contents were made with other settings"):
            make(corpus, lines_of(2), **other)
    with pytest.raises(ValueError, match=r"00000_0.flac has another text or voice; use the same texts, or another"):
        make(corpus, lines_of(2, texts=[text.upper() for text in TEXTS]))
    assert contents(corpus) == before


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_leaves_what_is_done(tmp_path, workers):
    texts = [text.replace("Four", "Four?") for text in TEXTS]
    lines = lines_of(5, texts=texts)
    with pytest.raises(ValueError, match=r"it breaks\."):
        make(tmp_path / "corpus", lines, model=Synthesizer(), workers=workers)
    done = {file.name for file in (tmp_path / "corpus").iterdir()}
    clips = {line.path for line in lines if (tmp_path / "corpus" / line.path).is_file()}
    assert clips and done == {*clips, "manifest.tsv", "pairs.tsv", "made_of.json"}
    assert {row["path"] for row in table(tmp_path / "corpus" / "manifest.tsv")} == clips
    assert {row["source"] for row in table(tmp_path / "corpus" / "pairs.tsv")} <= clips
    assert make(tmp_path / "corpus", lines, model=Synthesizer("#")) == 15 - len(clips)


def test_a_text_in_which_nothing_is_read_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"letters finds no phones in 'One\.'; reword that sentence"):
        make(tmp_path, lines_of(1, texts=["One."]), reader=G2P("letters", lambda text: [" "]))


@pytest.fixture
def command(run, tmp_path, monkeypatch):
    """Run the command on TEXTS with the stand-ins for Kokoro and for the reader."""
    monkeypatch.setattr("ssl_vc.parallel.kokoro.Kokoro", lambda folder: Synthesizer())
    monkeypatch.setattr("ssl_vc.parallel.g2p.load_g2p", lambda name: READER)
    (tmp_path / "texts.txt").write_text("\ufeff" + "\n\n".join(TEXTS), encoding="utf-8")

    def call(*options, texts=tmp_path / "texts.txt", out=tmp_path / "corpus"):
        return run("make-parallel", tmp_path, texts, "-o", out, "--speakers", 8, *options)

    return call


def test_the_command(command, corpus, tmp_path):
    status, out, _ = command("--sentences", 2)
    assert status == 0 and out == f"{corpus}: 6 clips, 0.00 h, 8 speakers, g2p by letters 1\n"
    assert command(out=tmp_path / "all")[0] == 0
    make(corpus, lines_of(5))
    assert contents(tmp_path / "all") == contents(corpus)
    status, _, error = command("--voices", 2)
    assert status == 1 and "its contents were made with other settings" in error


def test_the_command_in_figures(command, tmp_path):
    options = "--voices", 2, "--skip", 3, "--only", "af_ada", "am_bob", "--speeds", 0.5, 0.5, "--workers", 2
    status, out, _ = command(*options, "--json")
    rows = table(tmp_path / "corpus" / "manifest.tsv")
    hours = sum(float(row["seconds"]) for row in rows) / 3600
    told = {"output": str(tmp_path / "corpus"), "clips": 4, "hours": pytest.approx(hours, abs=6e-4), "speakers": 8}
    assert status == 0 and json.loads(out) == told and hours > 0.004
    assert {row["speed"] for row in rows} == {"0.5"} and not any("bf_cat" in row["speaker"] for row in rows)


def test_what_the_command_refuses(command, tmp_path):
    (tmp_path / "latin.txt").write_bytes("Caf\xe9.".encode("latin-1"))
    latin, none = tmp_path / "latin.txt", tmp_path / "none.txt"
    for status, told, options, places in [
        (2, "texts.txt is a file; -o expects a folder", (), {"out": tmp_path / "texts.txt"}),
        (2, "there is no file", (), {"texts": none}),
        (1, "latin.txt is not a text file in UTF-8", (), {"texts": latin}),
        (1, "has 5 sentences, of which 5 are skipped: none is left", ("--skip", 5), {}),
        (1, "there is no voice 'eve'; possible are af_ada", ("--without", "eve"), {}),
    ]:
        found, out, error = command(*options, **places)
        assert (found, out) == (status, "") and told in error and error.count("\n") == 1
        assert not (tmp_path / "corpus").exists()
