"""Only regular files of a plausible size are opened; what else a path may lead to is refused in one sentence."""

import os

import pytest

import pretrain.files
import vocoder.files

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")


@pytest.fixture(params=[pretrain.files, vocoder.files], ids=["pretrain", "vocoder"])
def files(request):
    return request.param


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pipe", "pipe is a pipe or a device; give a regular file"),
        ("zero", "zero is a pipe or a device"),
        ("loop", r"loop cannot be read \(Too many levels"),
        ("missing", r"missing cannot be read \(No such file"),
        ("null\0", "cannot be read"),
        (".", "is a folder; give a regular file"),
    ],
)
def test_what_is_no_regular_file_is_not_opened(files, tmp_path, name, reason):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for read in (files.require_file, files.read_text, files.read_json):
        with pytest.raises(ValueError, match=reason):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 100_000, "is broken .it is nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is broken .Exceeds the limit"),
        (b'{"a": ', "is broken"),
        (b"[1]", "holds a list; it must be an object"),
        (b"\xff\xfe", "is not a text file in UTF-8"),
    ],
)
def test_what_is_no_json_object_is_refused(files, tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        files.read_json(tmp_path / "a.json")


def test_a_regular_file_is_read_up_to_its_limit(files, tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert files.read_json(tmp_path / "a.json") == {"a": 1}
    assert files.read_text(tmp_path / "a.json", 8) == '{"a": 1}'
    with pytest.raises(ValueError, match="has 8 bytes, and such a file at most 7"):
        files.read_text(tmp_path / "a.json", 7)
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 2**33)  # takes no space
    with pytest.raises(ValueError, match="8589934592 bytes"):
        files.read_text(tmp_path / "large")
