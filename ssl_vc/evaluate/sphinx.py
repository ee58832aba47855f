"""What pocketsphinx must be told to hear, and its hearing, in whichever process.

Imports nothing of ours but the language model, so that a process that only hears starts in a moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ssl_vc.evaluate.language_model import write_bigrams

SEARCH: Mapping[str, Any] = {"bestpath": False, "maxhmmpf": 3000, "fwdflatbeam": 1e-48, "fwdflatwbeam": 1e-25}
"""With few sentences, natural speech is heard as well as with pocketsphinx's own settings, a tenth sooner."""


@dataclass(frozen=True)
class Knowledge:
    """What a recogniser is told.

    Attributes:
        sentences: which can be said, of words in the dictionary; where there are none, anything in general.
        dictionary: the words with their phones, a line each.
    """

    sentences: tuple[str, ...] = ()
    dictionary: str = ""


class Ear:
    """Hears with some knowledge; each sound by itself, whatever was heard before."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge

    def __call__(self, sounds: Sequence[bytes]) -> list[str]:
        """Give the words in each sound, 16 bit at 16 kHz; "" where there are none."""
        return [self._heard(sound) if sound else "" for sound in sounds]

    def _heard(self, sound: bytes) -> str:
        self._decoder.reinit_feat()  # else what it knows of the noise is that of the sound before
        self._decoder.start_utt()
        self._decoder.process_raw(sound, full_utt=True)  # and the cepstra's mean that of this sound alone
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr if found else ""

    @cached_property
    def _decoder(self) -> Any:
        from pocketsphinx import Decoder

        options = {"cmn": "batch", "loglevel": "FATAL"}
        if not self.knowledge.sentences:
            return Decoder(**options)
        with TemporaryDirectory() as folder:
            model, dictionary = Path(folder) / "bigrams.arpa", Path(folder) / "words.dict"
            write_bigrams(self.knowledge.sentences, model)
            dictionary.write_text(self.knowledge.dictionary, encoding="utf-8")
            return Decoder(lm=str(model), dict=str(dictionary), **options, **SEARCH)


def hear(knowledge: Knowledge, sounds: Sequence[bytes]) -> list[str]:
    """Give the words in each sound, with an ear of its own."""
    return Ear(knowledge)(sounds)
