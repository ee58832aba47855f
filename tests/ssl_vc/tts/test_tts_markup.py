"""Markup: the blend of each word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_vc.tts.markup import parse_markup
from ssl_vc.tts.text_normalization import split_sentences


def parsed(text, blends=()):
    return [tuple(sentence) for sentence in parse_markup(text, blends)]


def test_text_without_markup_is_split_into_sentences():
    text = "Dr. Who came at 5 p.m.\n\nNobody; was there!"
    assert [line.text for line in parse_markup(text)] == split_sentences(text)
    assert {blend for line in parse_markup(text) for blend in line.blends} == {None}


def test_marked_words_keep_their_blend():
    assert parsed("He said <voice blend=0.3>7 cats</voice>, at <voice blend='1'>all. Then</voice>\n\nnone.") == [
        ("he said seven cats, at all.", [None, None, 0.3, 0.3, None, 1.0]),
        ("then", [1.0]),
        ("none.", [None]),
    ]
    assert parsed('<VOICE blend = "0">x</voice>!') == [("x!", [0.0])]


def test_symbols_between_marked_parts_are_verbalised():
    assert parsed("I <voice blend=0>love</voice> & <voice blend=0>hate</voice> it") == [
        ("i love and hate it", [None, 0.0, None, 0.0, None])
    ]


def test_an_endless_word_is_refused():
    with pytest.raises(ValueError, match="a word that is too long; split it"):
        parse_markup(f"<voice blend=1>{'a' * 300}</voice>")


def test_a_blend_for_each_word():
    assert parsed("7 cats. Run!", [0, 1, 0.5]) == [("seven cats.", [0, 1]), ("run!", [0.5])]
    with pytest.raises(ValueError, match="there are 2 blends for 3 normalised words; give one per word"):
        parse_markup("7 cats. Run!", [0, 1])
    with pytest.raises(ValueError, match="blend is 5; possible are numbers from 0 to 4"):
        parse_markup("run", [5])
    with pytest.raises(ValueError, match="the text has markup, and there are blends per word"):
        parse_markup("<voice blend=1>run</voice>", [1])


@pytest.mark.parametrize(
    "text",
    [
        "<voice blend=a>b</voice>",
        "<voice blend=1.2.3>b</voice>",
        "<voice blend=1>b",
        "b</voice>",
        "<voice>b</voice>",
        "<voice blend=1>a <voice blend=0>b</voice></voice>",
    ],
)
def test_invalid_markup_are_refused(text):
    with pytest.raises(ValueError, match=r"the markup '<.*' is invalid; write <voice blend=0.3>some words</voice>"):
        parse_markup(text)


def test_invalid_values_are_refused():
    with pytest.raises(ValueError, match=r"blend is 9\.0; possible are numbers from 0 to 4"):
        parse_markup("<voice blend=9>a</voice>")
    with pytest.raises(ValueError, match="there is nothing to say"):
        parse_markup("<voice blend=1>...</voice>")


@given(st.lists(st.tuples(st.text("ab1 ,.'!$-\n", max_size=12), st.sampled_from([None, 0.25, 1.0])), max_size=6))
def test_every_word_has_the_blend_of_its_part(parts):
    marked = "".join(part if blend is None else f"<voice blend={blend}>{part}</voice>" for part, blend in parts)
    try:
        found = parse_markup(f"{marked} end")
    except ValueError:
        return
    words = [word for line in found for word in line.text.replace(",", " ").split()]
    blends = [blend for line in found for blend in line.blends]
    assert len(words) == len(blends)
    assert {blend for blend in blends if blend is not None} <= {blend for _, blend in parts}
    assert blends[-1] is None
