"""Text normalisation: examples, and properties of any text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_vc.tts.numerals import LARGEST, cardinal, ordinal, roman, to_roman, year
from ssl_vc.tts.text_normalization import MAX_LETTERS, normalize_text, split_sentences


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world!", "hello, world!"),
        ("He paid $5.50, not $1.", "he paid five dollars and fifty cents, not one dollar."),
        (
            "$3.2 million, £1, €0.99, ¥500",
            "three point two million dollars, one pound, ninety nine cents, five hundred yen",
        ),
        ("On March 5th, 2024.", "on march fifth, twenty twenty four."),
        ("5 March 1905", "march fifth, nineteen oh five"),
        ("2024-03-05 and 12/25/2023", "march fifth, twenty twenty four and december twenty fifth, twenty twenty three"),
        ("at 2:05 pm.", "at two oh five p m."),
        ("14:30, 7 a.m., 9:00", "fourteen thirty, seven a m, nine o'clock"),
        ("1905, 1984, 2005, 2024", "nineteen oh five, nineteen eighty four, two thousand five, twenty twenty four"),
        ("the 1990s and '80s", "the nineteen nineties and eighties"),
        ("1,234,567.89", "one million two hundred thirty four thousand five hundred sixty seven point eight nine"),
        ("-5 or 10-20", "minus five or ten to twenty"),
        ("Agent 007", "agent zero zero seven"),
        ("1st, 22nd, 113th", "first, twenty second, one hundred thirteenth"),
        ("1/2, 3/4, 2 1/2", "one half, three quarters, two and one half"),
        ("10km at 60 mph", "ten kilometers at sixty miles per hour"),
        ("1 kg, 6 ft", "one kilogram, six feet"),
        ("20°C and 50%", "twenty degrees celsius and fifty percent"),
        ("Dr. Smith vs. Mr. Jones, etc.", "doctor smith versus mister jones, et cetera"),
        ("on Main St. in St. Louis.", "on main street in saint louis."),
        ("i.e. this, e.g. that", "that is this, for example that"),
        ("NASA, BBC and the U.S. do", "nasa, b b c and the u s do"),
        ("J. R. R. Tolkien", "j r r tolkien"),
        ("World War II", "world war two"),
        ("No. 5 says no.", "number five says no."),
        ("a.b-c7@x.co.uk", "a dot b dash c seven at x dot co dot uk"),
        ("https://www.foo.org/a", "w w w dot foo dot org slash a"),
        ("555-1234", "five five five, one two three four"),
        ("Café “naïve” — straße…", "cafe, naive, strasse."),
        ("rock & roll + 1", "rock and roll plus one"),
        ("Don't 'quote' me", "don't quote me"),
        ("what?! no...", "what? no."),
        ("٣ and ３", "three and three"),
    ],
)
def test_examples(text, words):
    assert normalize_text(text) == words


@given(st.text(alphabet=st.characters(max_codepoint=0x24F), max_size=60))
def test_any_text_is_normalised_to_letters_idempotently(text):
    try:
        words = normalize_text(text)
    except ValueError as error:
        assert "nothing to say" in str(error) or "not English" in str(error)
        assert "not English" in str(error) or not re.search("[a-zA-Z0-9]", text)
        return
    assert re.fullmatch(r"[a-z'][a-z',.?! ]*", words)
    assert normalize_text(words) == words


@given(
    st.lists(
        st.sampled_from(["Dr.", "St.", "5", "1/2", "$", ".", "-", "km", "°", "1990s", "a", "II", "@", ":", "am", "'"])
    )
)
def test_any_combination_is_normalised_idempotently(parts):
    for text in ("".join(parts), " ".join(parts)):
        if re.search("[a-zA-Z0-9]", text):
            assert not re.search(r"\d", normalize_text(text))
            assert normalize_text(normalize_text(text)) == normalize_text(text)


@pytest.mark.parametrize("text", ["", " \n", "!!!", "…", "—"])
def test_nothing_to_say(text):
    for normalize in (normalize_text, split_sentences):
        with pytest.raises(ValueError, match="there is nothing to say"):
            normalize(text)


def test_other_scripts_are_refused():
    with pytest.raises(ValueError, match="not English: и р т; write it in English"):
        normalize_text("три or die")


def test_sentences():
    text = "Dr. Smith is here. Is he?\nYes!\n\nA heading\n\nIt costs $5.50... or so"
    words = ["doctor smith is here.", "is he?", "yes!", "a heading", "it costs five dollars and fifty cents.", "or so"]
    assert split_sentences(text) == words


@given(st.lists(st.sampled_from(["a", "word", "and,", "stop.", "x" * 300]), min_size=1, max_size=200))
def test_long_text_is_split_without_loss(words):
    text = " ".join(words)
    parts = split_sentences(text)
    assert all(0 < len(part) <= MAX_LETTERS for part in parts)
    assert "".join("".join(parts).split()) == "".join(normalize_text(text).split())


def test_numerals_by_hand():
    assert cardinal(0) == "zero" and cardinal(1_000_000) == "one million" and cardinal(-21) == "minus twenty one"
    assert cardinal(LARGEST).endswith("nine hundred ninety nine") and cardinal(LARGEST + 1) == "one" + " zero" * 21
    assert [ordinal(number) for number in (1, 12, 20, 100)] == ["first", "twelfth", "twentieth", "one hundredth"]
    assert [year(number) for number in (1066, 1900, 2000, 2010)] == [
        "ten sixty six",
        "nineteen hundred",
        "two thousand",
        "twenty ten",
    ]


@given(st.integers(1, 399))
def test_roman_numerals(number):
    assert roman(to_roman(number)) == number
    assert roman("IIII") is roman("VX") is roman("") is None


@given(st.integers(0, LARGEST))
def test_cardinals_mean_the_number(number):
    """Read the words back by their meaning."""
    ones = {cardinal(value): value for value in range(20)} | {cardinal(value): value for value in range(20, 100, 10)}
    groups = ["thousand", "million", "billion", "trillion", "quadrillion", "quintillion"]
    total = part = 0
    for word in cardinal(number).split():
        if word == "hundred":
            part *= 100
        elif word in groups:
            total, part = total + part * 1000 ** (groups.index(word) + 1), 0
        else:
            part += ones[word]
    assert total + part == number
