import sys

import pytest

from ssl_vc.evaluate.text_errors import ErrorCount, character_errors, normalize_text, word_errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 'done' -- at FIVE o’clock.", "it's done at five o'clock"),
        ("rock ʼnʼ roll, the boys’ don`t", "rock n roll the boys don't"),
        ("  Well-done!\n\tMr. Smith", "well done mr smith"),
        ("Cafe\u0301, GRÖSSE; Ёлка", "café grösse ёлка"),
        ("in 1907…", "in 1907"),
        ("你好。", "你好"),
        (" — ' ", ""),
    ],
)
def test_texts_are_made_comparable(text, expected):
    assert normalize_text(text) == expected
    assert normalize_text(expected) == expected


def test_the_same_words_have_no_errors_however_they_are_written():
    pytest.importorskip("jiwer")
    assert word_errors("“It’s five,” he SAID.", "it's five he said") == ErrorCount(0, 4)
    assert character_errors("“It’s five,” he SAID.", "it's five he said") == ErrorCount(0, 17)


@pytest.mark.parametrize(
    ("heard", "words", "letters"),
    [
        ("the cat sat", 0, 0),
        ("the bat sat", 1, 1),  # another
        ("the sat", 1, 4),  # one missing
        ("the cat sat down", 1, 5),  # one too many
        ("", 3, 11),
        ("a dog, or two, had run", 6, 16),  # more errors than words
    ],
)
def test_what_was_substituted_left_out_or_put_in_counts(heard, words, letters):
    pytest.importorskip("jiwer")
    assert word_errors("The cat sat.", heard) == (words, 3)
    assert character_errors("The cat sat.", heard) == (letters, 11)


def test_where_nothing_was_said_all_that_is_heard_is_wrong():
    assert word_errors("...", "a word!") == ErrorCount(2, 0)
    assert character_errors("", "a word!") == ErrorCount(6, 0)
    assert word_errors("", "") == character_errors("", "") == ErrorCount(0, 0)


def test_without_jiwer_the_cure_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ValueError, match=r"jiwer.* is missing; pip install 'ssl-vc\[eval\]'"):
        word_errors("a", "b")
