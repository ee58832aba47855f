"""Manifests that are damaged or hostile: one sentence, or the other clips."""

import numpy as np
import pytest
import soundfile

from pretrain.data.manifest import read_manifest


@pytest.fixture
def clip(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(4000, 0.1), 16_000)
    return tmp_path / "a.wav"


def test_a_name_that_is_too_long_is_skipped(tmp_path, clip):
    long = "x" * 5000
    (tmp_path / "clips.tsv").write_text(f"path\tsource\n{long}\t\na.wav\t{long}\na.wav\t\n")
    assert [clip.key for clip in read_manifest(tmp_path / "clips.tsv")] == ["a.wav"]


@pytest.mark.parametrize("name", ["clips.tsv", "wav.scp"])
def test_tables_in_another_encoding_are_named(tmp_path, clip, name):
    (tmp_path / name).write_bytes("path\na.wav\nJürgen.wav\n".encode("latin-1"))
    with pytest.raises(ValueError, match=f"{name} .*: 'utf-8' codec can't decode"):
        read_manifest(tmp_path / name if name == "clips.tsv" else tmp_path)
