"""A list of pairs says what it means, or which line does not; references are as long as was asked for."""

from pathlib import Path

import pytest
import torch

import ssl_vc
from ssl_vc.evaluate.pairs import Pair, Target, TestSet, read_pairs, read_references


def listed(tmp_path, text, name="pairs.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def recordings(tmp_path):
    """Three recordings of 1, 2 and 3 s between silences of half a second."""
    paths = []
    for seconds in (1, 2, 3):
        tone = 0.3 * torch.sin(torch.arange(16_000 * seconds) * 0.1 * seconds)
        paths.append(tmp_path / f"{seconds}.wav")
        ssl_vc.write(paths[-1], torch.nn.functional.pad(tone, (8_000, 8_000)), 16_000)
    return tuple(paths)


def test_a_list_needs_no_more_than_sources_and_targets(tmp_path):
    test_set = read_pairs(
        listed(tmp_path, "source,target\na.wav,x/anna.wav;x/more.wav\nb.flac,x/anna.wav; x/more.wav\n")
    )
    anna = Target("anna", (Path("x/anna.wav"), Path("x/more.wav")))
    assert test_set == TestSet(
        name="pairs",
        pairs=(Pair("a__anna", Path("a.wav"), "anna"), Pair("b__anna", Path("b.flac"), "anna")),
        targets={"anna": anna},
    )
    assert test_set.reference_seconds == (None,)


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t"), (".TSV", "\t")])
def test_all_columns_in_any_order(tmp_path, suffix, separator):
    row = {
        "text": '"He said ""oh"", and left."',
        "trials": "t1.wav;t2.wav",
        "target_speaker": "Anna K.",
        "name": "first",
        "source": "s.wav",
        "target": "r.wav",
        "speaker": "bert",
        "reading": "same.wav",
        "converted": "made.wav",
    }
    lines = [separator.join(row), separator.join(row.values()), " ", separator.join("" for _ in row)]
    test_set = read_pairs(listed(tmp_path, "\ufeff" + "\n".join(lines), f"pairs{suffix}"))
    said = 'He said "oh", and left.'
    pair = Pair("first", Path("s.wav"), "Anna K.", said, "bert", Path("same.wav"), Path("made.wav"))
    assert test_set.pairs == (pair,)
    assert test_set.targets == {"Anna K.": Target("Anna K.", (Path("r.wav"),), (Path("t1.wav"), Path("t2.wav")))}


def test_a_folder_stands_for_its_recordings(tmp_path):
    sounds = [f"v1.anna/{name}" for name in ("a.wav", "b.flac", "c/a.opus", "c/b.MP3", "d.wav", "e.wav", "f.wav")]
    for name in (*sounds[3:], *sounds[:3], "v1.anna/.hidden.wav", "v1.anna/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    test_set = read_pairs(listed(tmp_path, f"source,target\na.wav,{tmp_path / 'v1.anna'}\n"))
    assert test_set.targets == {"v1.anna": Target("v1.anna", tuple(tmp_path / name for name in sounds))}


def test_names_become_files(tmp_path):
    test_set = read_pairs(listed(tmp_path, "source,target,target_speaker\nx/wo?.wav,r.wav,a/b: c\n"))
    assert test_set.pairs[0].name == "wo-__a-b- c"
    assert test_set.pairs[0].target == "a/b: c"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no columns; it needs source and target, with commas"),
        ("source\ttarget\n", "it needs source and target, with commas"),
        ("source,target,Text\na,b,c\n", "the column 'Text'; possible are source, target, text, name"),
        ("source,target,target\na,b,c\n", "a column twice"),
        ("source,target\n\n", "has no pairs"),
        ("source,target\na,b\nc,d,e\n", r"line 3 of .* has 3 cells for 2 columns"),
        ("source,target\n,b\n", "line 2 of .* has no source"),
        ("source,target\na,;\n", "line 2 of .* has no target"),
        ("source,target,name\na,b,c/d\n", "line 2 of .* the name 'c/d'"),
        ("source,target,name\na,b,..\n", r"the name '\.\.'"),
        ("source,target\nx/a,b\ny/a,b\n", "two pairs are named 'a__b'"),
        ("source,target,name\na,b,Same\nc,b,same\n", "two pairs are named 'same'"),
        ("source,target\na,x/r.wav\nb,y/r.wav\n", "line 3 of .* other recordings of 'r' than an earlier row"),
        ("source,target,trials\na,r,t\nb,r,u\n", "line 3 of .* other recordings of 'r'"),
        ('source,target\na,"b\n', "is not a CSV file in UTF-8"),
    ],
)
def test_wrong_lists_are_explained(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_pairs(listed(tmp_path, text))


def test_lists_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"does not end in \.csv or \.tsv"):
        read_pairs(listed(tmp_path, "source,target\na,b\n", "pairs.txt"))
    with pytest.raises(ValueError, match="there is no file"):
        read_pairs(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(b"source,target\n\xe9,b\n")
    with pytest.raises(ValueError, match="is not a CSV file in UTF-8"):
        read_pairs(tmp_path / "latin.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"line 2 of .* holds no sound files"):
        read_pairs(listed(tmp_path, f"source,target\na,{tmp_path / 'empty'}\n"))


@pytest.mark.parametrize("seconds", [(), (0.0,), (-1.0,), (float("nan"),), (float("inf"),), (3.0, 3.0), (None, None)])
def test_lengths_of_reference_that_cannot_be(seconds):
    pairs, targets = (Pair("a", Path("a"), "b"),), {"b": Target("b", (Path("b"),))}
    with pytest.raises(ValueError, match="reference_seconds"):
        TestSet(name="x", pairs=pairs, targets=targets, reference_seconds=seconds)


def test_references_are_trimmed_and_in_order(recordings):
    wavs = read_references(Target("anna", recordings), None)
    assert [round(len(wav) / 16_000, 1) for wav in wavs] == [1.1, 2.1, 3.1]  # 50 ms are left at both ends
    backwards = read_references(Target("anna", recordings[::-1]), None)
    assert all(torch.equal(one, other) for one, other in zip(wavs, backwards[::-1], strict=True))


@pytest.mark.parametrize("seconds", [0.05, 0.5, 1.0, 2.0, 3.14, 6.0])
def test_references_last_as_long_as_asked(recordings, seconds):
    whole = torch.cat(read_references(Target("anna", recordings), None))
    wavs = read_references(Target("anna", recordings), seconds)
    assert sum(map(len, wavs)) == round(16_000 * seconds)
    assert torch.equal(torch.cat(wavs), whole[: round(16_000 * seconds)])


def test_no_crumb_of_a_recording(recordings):
    wavs = read_references(Target("anna", recordings), 1.2)  # the first lasts 1.1 s
    assert len(wavs) == 1


def test_a_fifth_may_be_missing(recordings):
    target = Target("anna", recordings)
    there = sum(map(len, read_references(target, None))) / 16_000
    assert sum(map(len, read_references(target, there / 0.801))) == round(16_000 * there)
    with pytest.raises(ValueError, match=r"anna has 6\.3 s of reference without silence, not 7\.88486 s; add"):
        read_references(target, there / 0.799)


def test_references_that_are_none(recordings, tmp_path):
    with pytest.raises(ValueError, match="anna has no references"):
        read_references(Target("anna", ()), None)
    with pytest.raises(ValueError, match="does not exist"):
        read_references(Target("anna", (tmp_path / "none.wav",)), None)


def test_names_that_are_too_long_are_no_folders(tmp_path):
    (tmp_path / "pairs.csv").write_text(f"source,target,name\na.wav,{'x' * 5000}.wav,one\n")
    (target,) = read_pairs(tmp_path / "pairs.csv").targets.values()
    with pytest.raises(ValueError, match="File name too long"):
        read_references(target, None)
