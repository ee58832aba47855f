"""Decoding with pocketsphinx, in any process.

Imports nothing of ours but the language model, so worker processes start quickly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ssl_vc.evaluate.language_model import write_bigrams

SEARCH: Mapping[str, Any] = {"bestpath": False, "maxhmmpf": 3000, "fwdflatbeam": 1e-48, "fwdflatwbeam": 1e-25}
"""With few sentences, as accurate as pocketsphinx's defaults on natural speech, and a tenth faster."""


@dataclass(frozen=True)
class SphinxVocabulary:
    """Closed vocabulary of a decoder; empty for the general model of English.

    Attributes:
        sentences: that the bigram model is trained on, of words in the dictionary.
        dictionary: the words with their phones, one per line.
    """

    sentences: tuple[str, ...] = ()
    dictionary: str = ""


class SphinxDecoder:
    """Decodes clips independently of each other."""

    def __init__(self, vocabulary: SphinxVocabulary) -> None:
        self.vocabulary = vocabulary

    def __call__(self, clips: Sequence[bytes]) -> list[str]:
        """Returns the words of each clip, 16-bit PCM at 16 kHz; "" where there are none."""
        return [self._decode(clip) if clip else "" for clip in clips]

    def _decode(self, clip: bytes) -> str:
        self._decoder.reinit_feat()  # else the noise estimate carries over from the clip before
        self._decoder.start_utt()
        self._decoder.process_raw(clip, full_utt=True)  # cepstral mean of this clip alone
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr if found else ""

    @cached_property
    def _decoder(self) -> Any:
        from pocketsphinx import Decoder

        options = {"cmn": "batch", "loglevel": "FATAL"}
        if not self.vocabulary.sentences:
            return Decoder(**options)
        with TemporaryDirectory() as folder:
            model, dictionary = Path(folder) / "bigrams.arpa", Path(folder) / "words.dict"
            write_bigrams(self.vocabulary.sentences, model)
            dictionary.write_text(self.vocabulary.dictionary, encoding="utf-8")
            return Decoder(lm=str(model), dict=str(dictionary), **options, **SEARCH)


def decode(vocabulary: SphinxVocabulary, clips: Sequence[bytes]) -> list[str]:
    """Decode clips with a new decoder."""
    return SphinxDecoder(vocabulary)(clips)
