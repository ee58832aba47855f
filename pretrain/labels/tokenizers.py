"""Text tokenizers for CTC: characters, or the phones of an English pronouncing dictionary.

Symbol 0 is the blank of `objectives.ctc`. Digits are not expanded: a text with digits has no tokens.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from pretrain.data.manifest import Clip

ARPABET = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
PHONES = ARPABET.split()
"""The phones of the CMU pronouncing dictionary, without stress."""

ENGLISH = ["", " ", "'", *"abcdefghijklmnopqrstuvwxyz"]


def words(text: str) -> list[str]:
    """Split a text into lower-case words of letters, digits and inner apostrophes; all else separates words."""
    text = unicodedata.normalize("NFC", text.lower()).replace("’", "'")
    kept = "".join(char if char == "'" or unicodedata.category(char)[0] in "LMN" else " " for char in text)
    return [word for word in (word.strip("'") for word in kept.split()) if word]


class CharacterTokenizer:
    """Tokenizes a text into characters, with a space between words.

    Args:
        symbols: the vocabulary, the blank first; the English letters by default.
    """

    def __init__(self, symbols: Sequence[str] = ENGLISH) -> None:
        self.symbols = list(symbols)
        self._ids = {symbol: number for number, symbol in enumerate(self.symbols) if symbol}

    @classmethod
    def of(cls, texts: Iterable[str]) -> "CharacterTokenizer":
        """Build the vocabulary of the English letters and all other letters of some texts."""
        found = {char for text in texts for char in "".join(words(text)) if unicodedata.category(char)[0] != "N"}
        return cls([*ENGLISH, *sorted(found.difference(ENGLISH))])

    def __call__(self, text: str) -> list[int] | None:
        """Return the token ids of a text; None if it has a character outside the vocabulary."""
        normalised = " ".join(words(text))
        return [self._ids[char] for char in normalised] if self._ids.keys() >= set(normalised) else None


class PhonemeTokenizer:
    """Tokenizes an English text into phones, by the first pronunciation of each word, without word boundaries.

    Args:
        dictionary: a file in the format of the CMU pronouncing dictionary, a word and its phones per line; further
            pronunciations have a number after the word, as in `read(2)`. Pocketsphinx's dictionary if None.
    """

    def __init__(self, dictionary: str | Path | None = None) -> None:
        self.symbols = ["", *PHONES]
        self._ids = {phone: number for number, phone in enumerate(self.symbols)}
        self._entries: dict[str, list[str]] = {}
        file = Path(dictionary or _bundled())
        for line in file.read_text(encoding="utf-8").splitlines():
            word, _, phones = line.partition("#")[0].strip().partition(" ")
            if phones and not word.startswith(";;;"):
                self._entries.setdefault(word.partition("(")[0].lower(), []).append(_unstressed(phones))
        foreign = set(" ".join(phones for entry in self._entries.values() for phones in entry).split()) - set(PHONES)
        if foreign or not self._entries:
            problem = f"its phone {min(foreign)!r} is none of the CMU dictionary's" if foreign else "it has no words"
            raise ValueError(f"{file} is no pronouncing dictionary: {problem}; give lines like 'hello HH AH L OW'.")

    def __call__(self, text: str) -> list[int] | None:
        """Return the phone ids of a text; None if the dictionary lacks a word."""
        ids: list[int] = []
        for word in words(text):
            pronunciations = self._lookup(word)
            if not pronunciations:
                return None
            ids += (self._ids[phone] for phone in pronunciations[0].split())
        return ids

    def _lookup(self, word: str) -> list[str]:
        """Return the pronunciations of a word; a missing genitive is derived from its base word."""
        found = self._entries.get(word, [])
        if not found and word.endswith("'s"):
            found = [genitive(phones) for phones in self._entries.get(word[:-2], ())]
        return found

    def words(self) -> dict[str, list[str]]:
        """Return the first pronunciation of every word."""
        return {word: found[0].split() for word, found in self._entries.items()}

    def pronunciations(self, word: str) -> list[list[str]]:
        """Return the pronunciations of a word, in the dictionary's order; none if it is unknown."""
        return [phones.split() for phones in self._lookup(word)]


def genitive(phones: str) -> str:
    """Append the genitive ending to a word's phones, as in cat's, dog's, horse's."""
    last = phones.split()[-1]
    if last in ("S", "Z", "SH", "ZH", "CH", "JH"):
        return phones + " AH Z"
    return phones + (" S" if last in ("P", "T", "K", "F", "TH") else " Z")


class TranscriptTokenizer:
    """Tokenizes the transcripts of clips in some languages."""

    def __init__(self, tokenizer: CharacterTokenizer | PhonemeTokenizer, languages: tuple[str, ...]) -> None:
        self.tokenizer, self.languages = tokenizer, languages

    def __call__(self, clip: Clip) -> list[int] | None:
        """Return the token ids of a clip's transcript; None if it is in another language, or cannot be tokenized."""
        return self.tokenizer(clip.text) if not self.languages or clip.language in self.languages else None


def _unstressed(phones: str) -> str:
    return phones.translate({ord(digit): None for digit in "012"})


def _bundled() -> str:
    try:
        import pocketsphinx
    except ImportError:
        reason = "the pronunciations come with pocketsphinx, which is missing; pip install 'ssl-vc[train]'."
        raise ValueError(reason) from None
    return pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")
