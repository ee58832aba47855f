"""G2P by eSpeak NG: IPA becomes phones, and where it is installed, it agrees with the dictionary on plain words."""

import os
import shutil

import pytest

from pretrain.labels.tokenizers import PHONES as KNOWN
from ssl_vc.tts.espeak import PHONES, Espeak, phones_of

needs_espeak = pytest.mark.skipif(not (shutil.which("espeak-ng") or shutil.which("espeak")), reason="no eSpeak NG here")


def test_every_ipa_symbol_becomes_phones_of_the_dictionary():
    assert {phone for phones in PHONES.values() for phone in phones} == set(KNOWN)


@pytest.mark.parametrize(
    ("ipa", "phones"),
    [
        ("həlˈoʊ", "HH AH L OW"),
        ("tʃˈɜːtʃ", "CH ER CH"),
        ("bˈʌʔn̩", "B AH T AH N"),
        ("fˈaɪɚɹ", "F AY ER R"),
        ("mˈɛʒɚ", "M EH ZH ER"),
        ("kjˈuːbɚnˌiːts", "K Y UW B ER N IY T S"),
    ],
)
def test_ipa(ipa, phones):
    assert phones_of(ipa) == phones.split()


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a shell script in eSpeak's place."""

    def write(script):
        (tmp_path / "espeak-ng").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "espeak-ng").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    return write


@pytest.mark.skipif(os.name == "nt", reason="shell scripts")
def test_each_phrase_gets_a_line(program):
    program("tr -d .")
    assert Espeak().ipa(["hello world", "so"]) == ["hello world", "so"]
    program("cat; echo so >&2")
    assert Espeak().phonemize(["a", "k"]) == [["AH"], ["K"]]
    program("tr a '\\n'; echo strange >&2")
    with pytest.raises(ValueError, match=r"eSpeak NG wrote 2 lines for 1 phrases \(strange\)"):
        Espeak().ipa(["bat"])
    program("cat; exit 3")
    with pytest.raises(ValueError, match=r"eSpeak NG wrote 1 lines for 1 phrases \(ok\)"):
        Espeak().ipa(["bat"])


@needs_espeak
def test_phrases():
    assert Espeak().ipa(["hello world", "the church"]) == ["həlˈoʊ wˈɜːld", "ðə tʃˈɜːtʃ"]


@needs_espeak
def test_words():
    words = ["voice", "don't", "a", "the", "judge", "x", "north", "antidisestablishmentarianism"]
    phones = dict(zip(words, Espeak().phonemize(words), strict=True))
    assert phones["voice"] == ["V", "OY", "S"] and phones["judge"] == ["JH", "AH", "JH"]
    assert phones["don't"] == ["D", "OW", "N", "T"] and phones["north"] == ["N", "AO", "R", "TH"]
    assert phones["a"] == ["AH"] and phones["the"] == ["DH", "AH"] and phones["x"] == ["EH", "K", "S"]
    assert len(phones["antidisestablishmentarianism"]) > 20
    assert Espeak().phonemize([]) == []


def test_the_error_without_it_names_the_cure(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="eSpeak NG is not installed; apt, brew or winget install espeak-ng"):
        Espeak()
