"""Text as symbols that a head can learn to hear: letters, or the phones of an English pronouncing dictionary.

Symbol 0 is the blank of `objectives.ctc`. Numbers written in digits are not read out: such a text cannot be written.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from pretrain.data.manifest import Clip

SPELLED = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
PHONES = SPELLED.split()
"""The phones of the CMU pronouncing dictionary, without stress."""

ENGLISH = ["", " ", "'", *"abcdefghijklmnopqrstuvwxyz"]


def words(text: str) -> list[str]:
    """Split a text into lower-case words: letters, digits and inner apostrophes; all else only parts them."""
    text = unicodedata.normalize("NFC", text.lower()).replace("’", "'")
    kept = "".join(sign if sign == "'" or unicodedata.category(sign)[0] in "LMN" else " " for sign in text)
    return [word for word in (word.strip("'") for word in kept.split()) if word]


class Characters:
    """Spells a text, with a space between words.

    Args:
        symbols: what there is to spell with, the blank first; those of English by default.
    """

    def __init__(self, symbols: Sequence[str] = ENGLISH) -> None:
        self.symbols = list(symbols)
        self._number = {symbol: number for number, symbol in enumerate(self.symbols) if symbol}

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Characters":
        """Take the English letters, and whatever other letters some texts have."""
        found = {sign for text in texts for sign in "".join(words(text)) if unicodedata.category(sign)[0] != "N"}
        return cls([*ENGLISH, *sorted(found.difference(ENGLISH))])

    def __call__(self, text: str) -> list[int] | None:
        """Give the numbers of a text's symbols; None if it has a letter or a digit that is none of them."""
        spelled = " ".join(words(text))
        return [self._number[sign] for sign in spelled] if self._number.keys() >= set(spelled) else None


class Phonemes:
    """Pronounces an English text, each word as a dictionary has it first, with nothing between words.

    Args:
        dictionary: a file in the format of the CMU pronouncing dictionary, one word with its phones a line; a second
            pronunciation has a number behind the word, as in `read(2)`. The one that pocketsphinx brings if None.
    """

    def __init__(self, dictionary: str | Path | None = None) -> None:
        self.symbols = ["", *PHONES]
        self._number = {phone: number for number, phone in enumerate(self.symbols)}
        self._entries: dict[str, list[str]] = {}
        file = Path(dictionary or _bundled())
        for line in file.read_text(encoding="utf-8").splitlines():
            word, _, phones = line.partition("#")[0].strip().partition(" ")
            if phones and not word.startswith(";;;"):
                self._entries.setdefault(word.partition("(")[0].lower(), []).append(_unstressed(phones))
        foreign = set(" ".join(phones for entry in self._entries.values() for phones in entry).split()) - set(PHONES)
        if foreign or not self._entries:
            problem = (
                f"the phone {min(foreign)!r} in it is none of the CMU dictionary's" if foreign else "it has no words"
            )
            raise ValueError(f"{file} is no pronouncing dictionary: {problem}; give lines like 'hello HH AH L OW'.")

    def __call__(self, text: str) -> list[int] | None:
        """Give the numbers of a text's phones; None if the dictionary lacks a word of it."""
        numbers: list[int] = []
        for word in words(text):
            known = self._known(word)
            if not known:
                return None
            numbers += (self._number[phone] for phone in known[0].split())
        return numbers

    def _known(self, word: str) -> list[str]:
        """Give the ways in which a word can be said; of a name's genitive that is not listed, the name's with its s."""
        found = self._entries.get(word, [])
        if not found and word.endswith("'s"):
            found = [genitive(phones) for phones in self._entries.get(word[:-2], ())]
        return found

    def words(self) -> dict[str, list[str]]:
        """Give the phones of every word, as it is said first."""
        return {word: found[0].split() for word, found in self._entries.items()}

    def pronunciations(self, word: str) -> list[list[str]]:
        """Give the ways in which a word can be said, the first one first; none if it is unknown."""
        return [phones.split() for phones in self._known(word)]


def genitive(phones: str) -> str:
    """Add the genitive's s to a word's phones, as English says it: cat's, dog's, horse's."""
    last = phones.split()[-1]
    if last in ("S", "Z", "SH", "ZH", "CH", "JH"):
        return phones + " AH Z"
    return phones + (" S" if last in ("P", "T", "K", "F", "TH") else " Z")


class Spelled:
    """Tokens of what is said in a clip, where its language is wanted."""

    def __init__(self, spelling: Characters | Phonemes, languages: tuple[str, ...]) -> None:
        self.spelling, self.languages = spelling, languages

    def __call__(self, clip: Clip) -> list[int] | None:
        """Give the tokens; None if the text is in another language, or cannot be spelled."""
        return self.spelling(clip.text) if not self.languages or clip.language in self.languages else None


def _unstressed(phones: str) -> str:
    return phones.translate({ord(digit): None for digit in "012"})


def _bundled() -> str:
    try:
        import pocketsphinx
    except ImportError:
        reason = "the pronunciations come with pocketsphinx, which is missing; pip install 'ssl-vc[train]'."
        raise ValueError(reason) from None
    return pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")
