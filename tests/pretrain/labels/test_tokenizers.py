import sys

import pytest

from pretrain.labels.tokenizers import PHONES, CharacterTokenizer, PhonemeTokenizer, words


@pytest.fixture
def dictionary(tmp_path):
    file = tmp_path / "words.dict"
    file.write_text(
        ";;; a comment\nREAD  R EH1 D\nREAD(2)  R IY1 D\nit's IH T S # of it\no'clock AH K L AA K\nwell W EH2 L\n"
    )
    return file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 'done' -- at five o’clock.", ["it's", "done", "at", "five", "o'clock"]),
        ("Well-done!", ["well", "done"]),
        ("Über Straße, Cafe\u0301", ["über", "straße", "café"]),
        ("in 1907_8", ["in", "1907", "8"]),
        (" ' -- ", []),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_characters_spell_and_can_be_read_back():
    tokenize = CharacterTokenizer()
    numbers = tokenize("It's WELL-done.")
    assert "".join(tokenize.symbols[number] for number in numbers) == "it's well done"
    assert tokenize.symbols[0] == "" and 0 not in numbers
    assert len(set(tokenize.symbols)) == len(tokenize.symbols) == 29


def test_characters_of_another_language_come_from_its_texts():
    texts = ["Größe!", "ЁЛКА 3", "Cafe\u0301"]
    tokenize = CharacterTokenizer.of(texts)
    assert set(tokenize.symbols) - set(CharacterTokenizer().symbols) == set("ößёлка" + "é")
    assert tokenize.symbols == CharacterTokenizer.of(reversed(texts)).symbols
    assert len(set(tokenize.symbols)) == len(tokenize.symbols)
    assert "".join(tokenize.symbols[number] for number in tokenize("ёлка größe")) == "ёлка größe"
    assert CharacterTokenizer(tokenize.symbols)("ёлка") == tokenize("ёлка")


@pytest.mark.parametrize("text", ["größe", "it is 5"])
def test_what_has_no_symbol_cannot_be_spelled(text):
    assert CharacterTokenizer()(text) is None


def test_a_text_is_pronounced_as_the_dictionary_has_it_first(dictionary):
    pronounce = PhonemeTokenizer(dictionary)
    assert pronounce.symbols == ["", *PHONES]
    said = [pronounce.symbols[number] for number in pronounce("It's well read.")]
    assert " ".join(said) == "IH T S W EH L R EH D"
    assert pronounce.pronunciations("read") == [["R", "EH", "D"], ["R", "IY", "D"]]
    assert pronounce.pronunciations("write") == []
    assert pronounce("") == []


@pytest.mark.parametrize(
    ("word", "phones"), [("well's", "W EH L Z"), ("o'clock's", "AH K L AA K S"), ("it's's", "IH T S AH Z")]
)
def test_a_missing_genitive_is_derived(dictionary, word, phones):
    assert PhonemeTokenizer(dictionary).pronunciations(word) == [phones.split()]
    assert PhonemeTokenizer(dictionary)("it's") == PhonemeTokenizer(dictionary)("it's ")
    assert PhonemeTokenizer(dictionary)("'s written's") is None


@pytest.mark.parametrize("text", ["well written", "well 5"])
def test_an_unknown_word_cannot_be_pronounced(dictionary, text):
    assert PhonemeTokenizer(dictionary)(text) is None


def test_the_dictionary_that_comes_with_pocketsphinx():
    pronounce = PhonemeTokenizer()
    said = [pronounce.symbols[number] for number in pronounce("Nothing was read at five o’clock, he said.")]
    assert " ".join(said) == "N AH TH IH NG W AA Z R EH D AE T F AY V AH K L AA K HH IY S EH D"
    assert ["R", "IY", "D"] in pronounce.pronunciations("read")
    assert len(PHONES) == 39


@pytest.mark.parametrize(("content", "problem"), [("hello h e l o\n", "'e'"), ("", "no words")])
def test_what_is_no_dictionary_is_refused(tmp_path, content, problem):
    (tmp_path / "d").write_text(content)
    with pytest.raises(ValueError, match=f"no pronouncing dictionary: .*{problem}"):
        PhonemeTokenizer(tmp_path / "d")


def test_without_pocketsphinx_the_error_names_the_extra(monkeypatch, dictionary):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    assert PhonemeTokenizer(dictionary)("well")
    with pytest.raises(ValueError, match=r"pip install 'ssl-vc\[train\]'"):
        PhonemeTokenizer()
