"""`ssl-vc probe`: a table, a chart and a recommendation."""

import json
from xml.etree import ElementTree

import pytest
import soundfile
import torch

from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc.evaluate import layers

COUNT = 24  # of 20 ms, in half a second


class Phones(dict):
    """Alignments of the `speech` fixture: one of 8 sounds every 100 ms, the last of them silence."""

    symbols, fingerprint = tuple("SAEIOUYH"), "known"

    def __missing__(self, key):
        text = int(key.split("-")[1].removesuffix(".wav"))
        sounds = torch.randint(8, (6,), generator=torch.Generator().manual_seed(text))
        sounds[0] = 0
        return ((sounds + 1) % 8).repeat_interleave(5)[:COUNT].numpy()

    def __contains__(self, key):
        return not key.startswith(("unknown", "german", "textless"))


@pytest.fixture
def aligned(monkeypatch):
    """Keys of the clips that are aligned, by split; the alignments are those of `Phones`."""
    asked = []

    def align(clips, folder):
        asked.append([clip.key for clip in clips])
        return Phones()

    monkeypatch.setattr(layers, "align", align)
    return asked


@pytest.fixture
def config(tmp_path, speech, aligned):
    """Two training and two test speakers with 4 clips each, others without alignments, German, or without text."""
    rows = ["path\tsplit\tspeaker\tseconds\tlanguage\ttext"]
    others = {"unknown": ("dev", 100, 1.0), "german": ("dev", 120, 1.0), "textless": ("dev", 130, 1.0)}
    speakers = {"a": ("train", 100, 1.0), "b": ("train", 200, 0.8), "c": ("dev", 120, 1.1), "d": ("dev", 220, 0.9)}
    for name, (split, pitch, size) in (speakers | others).items():
        for text in range(4):
            wav = speech(0.5, pitch=pitch, size=size, text=text)
            soundfile.write(tmp_path / f"{name}-{text}.wav", wav.numpy(), 16_000)
            language, words = "de" if name == "german" else "en", "" if name == "textless" else "hello"
            rows.append(f"{name}-{text}.wav\t{split}\t{name}\t0.5\t{language}\t{words}")
    (tmp_path / "clips.tsv").write_text("\n".join(rows))
    path = tmp_path / "probe.yaml"
    path.write_text(
        f"encoder: untrained\nclips: {tmp_path / 'clips.tsv'}\nphones: {tmp_path / 'phones'}\n"
        "layers: [0, 2]\ntrain_minutes: 1\n"
    )
    return path


def test_a_table_a_chart_and_a_recommendation(run, config, tmp_path):
    status, out, err = run("probe", config, "-o", tmp_path / "out", "--json")
    assert status == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["features"] for row in rows] == ["mfcc", "log-mel", "layer 0", "layer 2"]
    assert [row["dim"] for row in rows] == [39, 80, 256, 256]
    for row in rows:
        assert row["phones"] > 30  # of seven sounds
        assert row["kept"] > 40
        assert 0 < row["distance"] < 30
    assert rows[0]["kept_across"] > 40
    best = max(rows[2:], key=lambda row: row["kept_across"])["layer"]
    assert f"recommended: layer {best}," in err
    assert "train: 0.1 minutes in 8 clips of 2 speakers" in err
    assert "dev: 0.1 minutes in 8 clips of 2 speakers" in err  # those with alignments
    found = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert found["rows"] == rows
    assert found["recommended"] == best
    assert found["config"]["layers"] == [0, 2]
    assert found["guessing"]["speakers"] == 50
    picture = ElementTree.parse(tmp_path / "out" / "probe.svg").getroot()
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}polyline"))) == 6
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["probe.json", "probe.svg"]


def test_matched_frames_of_an_encoder_with_cepstra(run, config, tmp_path):
    torch.manual_seed(0)
    encoder = SpeechEncoder(EncoderConfig.tiny(depth=2, matching_layer=2, cepstra=0.5))
    encoder.save_pretrained(tmp_path / "encoder")
    status, out, err = run("probe", config, "layers=[2]", f"encoder={tmp_path / 'encoder'}", "--json")
    assert status == 0, err
    rows = {row["features"]: row for row in map(json.loads, out.splitlines())}
    assert list(rows) == ["mfcc", "log-mel", "layer 2", "mel-mean", "2-mean", "matched"]
    assert [rows[name]["dim"] for name in ("mel-mean", "2-mean", "matched")] == [80, 256, 280]
    assert rows["matched"]["layer"] is None
    assert rows["matched"]["kept"] > max(40, rows["2-mean"]["kept"] - 10)
    assert "recommended: layer 2," in err


def test_parallel_clips_tell_how_often_the_true_frame_is_found(run, config, tmp_path, speech):
    rows = ["path\tspeaker\tsentence\tlanguage\ttext\tseconds"]
    for text in range(3):
        for name, pitch in (("a", 120), ("b", 200)):
            soundfile.write(tmp_path / f"{name}-{text}.wav", speech(0.5, pitch=pitch, text=text).numpy(), 16_000)
            rows.append(f"{name}-{text}.wav\t{name}\t{text}\ten\thello\t0.5")
    (tmp_path / "parallel.tsv").write_text("\n".join(rows))
    status, out, err = run("probe", config, f"parallel={tmp_path / 'parallel.tsv'}", "layers=[2]", "--json")
    assert status == 0, err
    rows = {row["features"]: row for row in map(json.loads, out.splitlines())}
    chance = 100 * 3 / (3 * COUNT)
    assert all(chance < row["recall"] <= 100 and 0 < row["same_third"] <= 100 for row in rows.values())


def test_the_table_is_aligned(run, config):
    status, out, err = run("probe", config, "layers=[1]")
    assert status == 0, err
    heading, *rows = out.splitlines()
    assert heading.split()[:3] == ["features", "dim", "phones"]
    assert len({len(line) for line in (heading, *rows)}) == 1
    assert rows[-1].startswith("layer 1")
    assert "recommended: layer 1," in err


def test_one_speaker_recommends_nothing(run, config, tmp_path):
    table = tmp_path / "clips.tsv"
    table.write_text("\n".join(line for line in table.read_text().splitlines() if not line.startswith("d-")))
    status, out, err = run("probe", config, "layers=[1]", "--json")
    assert status == 0, err
    row = json.loads(out.splitlines()[-1])
    assert row["kept_across"] is row["speakers"] is None
    assert row["kept"] > 40
    assert "no layer is recommended" in err


def test_what_exists_is_kept(run, config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "probe.svg").write_text("mine")
    status, _, err = run("probe", config, "-o", tmp_path / "out")
    assert status == 1
    assert "--force overwrites it" in err
    assert (tmp_path / "out" / "probe.svg").read_text() == "mine"


@pytest.mark.parametrize(
    ("setting", "status", "reason"),
    [
        ("layers=[7]", 1, "layers 0 to 6"),
        ("minutes=3", 2, "minutes"),
        ("test_minutes=-1", 2, "give more than 0"),
        ("encoder=nobody", 1, "there is no model 'nobody'"),
    ],
)
def test_wrong_settings_are_explained(run, config, setting, status, reason):
    found, out, err = run("probe", config, setting)
    assert (found, out) == (status, "")
    assert err.startswith("error: ")
    assert reason in err


def test_a_speaker_in_both_splits_is_refused(run, config, tmp_path):
    table = tmp_path / "clips.tsv"
    table.write_text(table.read_text().replace("\tdev\tc\t", "\tdev\ta\t"))
    status, _, err = run("probe", config)
    assert status == 1
    assert "the speaker 'a' is in both splits" in err


def test_english_clips_with_text_are_aligned_as_far_as_needed(run, config, aligned, tmp_path):
    assert run("probe", config, "layers=[1]", "train_minutes=0.02")[0] == 0
    train, test = aligned
    assert len(train) == 3  # clips of half a second
    assert {key[0] for key in test} == {"c", "d", "u"}  # not the German ones, nor those without text
    (tmp_path / "phones" / "train").mkdir(parents=True)
    status, _, err = run("probe", config)
    assert status == 1 and "no phone alignments" in err


def test_the_layer_that_keeps_most_phones_across_speakers_is_recommended():
    values = dict.fromkeys(layers.LayerResult._fields, 50.0) | {"features": "layer 1", "layer": 1}
    row = layers.LayerResult(**values)
    rows = [row._replace(layer=None, kept_across=99.0), row, row._replace(layer=2, kept=10.0, kept_across=51.0)]
    assert layers.recommend_layer(rows).layer == 2
    assert layers.recommend_layer(rows[:1]) is None
