"""Clips with a source: its audio is the input; length and labels are the clip's, and fingerprints include it."""

import hashlib
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from pretrain.data.manifest import decode, decode_input, fit_length, read_manifest, sources_fingerprint
from pretrain.data.pack import AudioFiles, build_pack
from pretrain.data.shards import Shards, write_shards
from pretrain.encoder.framing import HOP, RECEPTIVE_FIELD
from pretrain.labels import align as align_module
from pretrain.labels.align import align_chunk
from pretrain.labels.kmeans_labels import KMeansLabels
from pretrain.labels.mfcc import frame_mfcc
from pretrain.pipeline import Pretraining
from pretrain.recipe import Iteration, LabelConfig, PretrainConfig
from pretrain.training.config import TrainConfig

LENGTHS = {"a": 32_000, "b": 33_000, "c": 31_999}


def write(path, sound):
    soundfile.write(path, sound, 16_000, subtype="PCM_16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, speech):
    """Three clips of a man; a woman says `a` 320 samples longer, and `b` 320 samples shorter."""
    folder = tmp_path_factory.mktemp("parallel")
    (folder / "woman").mkdir()
    for text, (name, samples) in enumerate(LENGTHS.items()):
        write(folder / f"{name}.wav", speech(samples / 16_000, text=text))
    for text, (name, more) in enumerate([("a", 320), ("b", -320)]):
        write(folder / "woman" / f"{name}.wav", speech((LENGTHS[name] + more) / 16_000, pitch=210, size=1.2, text=text))
    table = "path\tsource\tspeaker\na.wav\twoman/a.wav\tman\nb.wav\twoman/b.wav\tman\nc.wav\t\tman\n"
    (folder / "clips.tsv").write_text(table, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def clips(folder):
    return read_manifest(folder / "clips.tsv")


def without(clips):
    return [clip._replace(source=None) for clip in clips]


def test_the_column_is_read(folder, clips):
    assert [clip.source for clip in clips] == [folder / "woman" / "a.wav", folder / "woman" / "b.wav", None]
    assert [clip.input_path for clip in clips] == [
        folder / "woman" / "a.wav",
        folder / "woman" / "b.wav",
        folder / "c.wav",
    ]
    assert [clip.path for clip in clips] == [folder / "a.wav", folder / "b.wav", folder / "c.wav"]
    assert [round(clip.seconds * 16_000) for clip in clips] == list(LENGTHS.values())
    assert all(clip.speaker == "man" for clip in clips)


@pytest.mark.parametrize("seconds", ["", "9.9"])
@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("gone.wav", "its source is not there"),
        ("broken.wav", "its source: Error opening"),
        ("longer.wav", "its source is 0.020 s longer"),
        ("shorter.wav", "its source is 0.500 s shorter"),
    ],
)
def test_sources_that_do_not_fit_are_left_out_and_named(folder, tmp_path, caplog, seconds, source, problem):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    write(tmp_path / "longer.wav", np.zeros(LENGTHS["a"] + 321))
    write(tmp_path / "shorter.wav", np.zeros(LENGTHS["a"] - 8000))
    rows = [f"{folder}/a.wav\t{source}\t{seconds}", f"{folder}/c.wav\t\t{seconds}"]
    (tmp_path / "clips.tsv").write_text("path\tsource\tseconds\n" + "\n".join(rows), encoding="utf-8")
    caplog.set_level(logging.WARNING)
    (left,) = read_manifest(tmp_path / "clips.tsv")
    assert left.path.name == "c.wav"
    assert f"1 clips left out: {folder}/a.wav ({problem}" in caplog.text
    (tmp_path / "clips.tsv").write_text("path\tsource\tseconds\n" + rows[0], encoding="utf-8")
    with pytest.raises(ValueError, match=f"lists no usable clips; the first left out: .*a.wav \\({problem}"):
        read_manifest(tmp_path / "clips.tsv")


def test_lengths_are_compared_in_seconds(folder, tmp_path):
    write(tmp_path / "said.wav", np.zeros(32_000))
    soundfile.write(tmp_path / "heard.wav", np.zeros(48_400), 24_000)  # 16.7 ms more
    (tmp_path / "clips.tsv").write_text("path\tsource\tseconds\nsaid.wav\theard.wav\t3.0\n", encoding="utf-8")
    (clip,) = read_manifest(tmp_path / "clips.tsv")
    assert clip.seconds == 3.0  # what the list says stays
    assert len(decode(clip.source)) > len(decode_input(clip)) == 32_000


def test_the_source_is_read_at_the_clips_length(clips, tmp_path):
    pack = build_pack(clips, tmp_path / "pack")
    for sounds, exact in ((AudioFiles(clips), 0), (pack, 1e-4)):
        for index, clip in enumerate(clips):
            heard = sounds.read(index)
            assert len(heard) == LENGTHS[clip.path.stem] and heard.dtype == np.float32
            expected = fit_length(decode(clip.input_path), len(heard))
            np.testing.assert_allclose(heard, expected, atol=exact)
            assert (np.abs(heard - decode(clip.path)).max() > 0.1) == (clip.source is not None)
    assert not pack.read(1)[-320:].any()  # filled up
    assert [round(clip.seconds * 16_000) for clip in pack.clips] == list(LENGTHS.values())


def test_a_source_that_vanishes_is_named(clips, tmp_path, caplog):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    broken = [clips[0]._replace(source=tmp_path / "broken.wav"), clips[2]]
    assert [clip.key for clip in build_pack(broken, tmp_path / "pack").clips] == ["c.wav"]
    assert "a.wav (Error opening" in caplog.text
    assert not AudioFiles(broken).read(0).any()
    assert "a.wav cannot be read" in caplog.text


def test_a_pack_of_other_sources_is_another(clips, tmp_path):
    plain = without(clips)
    listed = [(clip.key, str(clip.path), clip.path.stat().st_size) for clip in plain]
    as_ever = hashlib.blake2b(repr(listed).encode(), digest_size=8).hexdigest()
    assert build_pack(plain, tmp_path / "pack").fingerprint == as_ever
    swapped = [clips[0]._replace(source=clips[2].path), *clips[1:]]
    marks = {build_pack(each, tmp_path / "pack").fingerprint for each in (plain, clips, clips[:2], swapped)}
    assert len(marks) == 4
    with pytest.raises(ValueError, match="holds other clips, which a training was run on"):
        build_pack(plain, tmp_path / "pack", keep=True)


def test_a_fingerprint_of_sources_is_of_them_alone(folder, clips):
    assert sources_fingerprint(without(clips)) == ""
    assert (
        sources_fingerprint(clips)
        == sources_fingerprint(clips[::-1])
        == sources_fingerprint(clips[:2])
        != sources_fingerprint(clips[:1])
    )
    moved = [
        clip._replace(path=clip.path.relative_to(folder), source=clip.source and clip.source.relative_to(folder))
        for clip in clips
    ]
    assert sources_fingerprint(moved) == sources_fingerprint(clips)


def test_shards_hold_the_sources(clips, tmp_path):
    shards = write_shards(clips, tmp_path / "shards")
    by_key = {clip.key: clip for clip in clips}
    for clip, samples in Shards(tmp_path / "shards").stream(0):
        was = by_key.pop(clip.key)
        assert (samples == decode_input(was)).all()
        assert (clip.seconds, clip.speaker, clip.source) == (len(samples) / 16_000, "man", None)
    assert not by_key
    assert shards.index["seconds"] == pytest.approx(sum(LENGTHS.values()) / 16_000)
    assert write_shards(without(clips), tmp_path / "plain").index["fingerprint"] != shards.index["fingerprint"]


def test_phones_are_those_of_the_clip_itself(clips, monkeypatch):
    heard = []
    monkeypatch.setattr(align_module, "_decoder", lambda: None)
    monkeypatch.setattr(align_module, "_in_dictionary", lambda *_: True)
    monkeypatch.setattr(
        align_module, "_force_align", lambda wav, *_: heard.append(wav) or [align_module.PhoneSegment("AA", 0)]
    )
    align_chunk([clip._replace(text="hello") for clip in clips])
    assert all((wav == decode(clip.path)).all() for wav, clip in zip(heard, clips, strict=True))


@pytest.fixture
def recipe(folder):
    return PretrainConfig(
        encoder="tiny",
        shape={"dim": 16, "conv_dim": 16, "depth": 1, "heads": 2, "ffn_dim": 32, "pos_kernel": 8, "pos_groups": 2},
        clips=str(folder / "clips.tsv"),
        train=TrainConfig(seconds=6.0, longest=3.0, shortest=0.5, steps=1, precision="float32", workers=0),
        iterations=[Iteration([LabelConfig(clusters=8)])],
    )


@pytest.mark.parametrize("storage", ["pack", "files"])
def test_pretraining_reads_sources_and_predicts_labels_of_the_clips(recipe, clips, tmp_path, storage):
    whole = Pretraining(replace(recipe, storage=storage), tmp_path)
    whole.open()
    (labels,) = whole._labels(1)
    assert isinstance(labels, KMeansLabels)
    for index, clip in enumerate(clips):
        np.testing.assert_allclose(whole.train.read(index), decode_input(clip), atol=1e-4)
        if clip.source:
            expected = labels.kmeans(frame_mfcc(torch.from_numpy(decode(clip.path))[None])[0]).numpy()
            assert np.array_equal(labels[clip.key], expected)
        assert len(labels[clip.key]) == (len(whole.train.read(index)) - RECEPTIVE_FIELD) // HOP + 1
    whole.run()  # the labels fit what is heard
    assert json.loads((tmp_path / "1" / "done.json").read_text())["step"] == 1


def test_a_training_on_other_sources_is_another(recipe, clips, tmp_path):
    whole = Pretraining(replace(recipe, storage="files"), tmp_path)
    marks = []
    for heard in (clips, without(clips), clips[:1] + without(clips[1:])):
        whole.train = AudioFiles(heard)
        marks.append(whole._iteration_fingerprint(1, [], ""))
    assert len(set(marks)) == 3
    whole.train = None
    assert whole._iteration_fingerprint(1, [], "") == marks[1]  # as it was before there were sources
