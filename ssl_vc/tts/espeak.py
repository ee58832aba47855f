"""G2P by eSpeak NG, where that program is installed; it is run, never linked.

Its output, IPA of American English, is mapped to the phones of the CMU dictionary that text models read.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence

PROGRAMS = ("espeak-ng", "espeak")
IPA_TO_PHONES = """
    tʃ CH, dʒ JH, aɪɚ AY ER, aɪə AY AH, aʊɚ AW ER, aɪ AY, aʊ AW, eɪ EY, oʊ OW, ɔɪ OY, iə IY AH, ɜ ER, ɚ ER, ɝ ER,
    i IY, ɪ IH, ᵻ IH, ɛ EH, e EY, æ AE, a AA, ɑ AA, ʌ AH, ə AH, ɐ AH, ɔ AO, o AO, ʊ UH, u UW, p P, b B, t T, d D,
    k K, ɡ G, g G, f F, v V, θ TH, ð DH, s S, z Z, ʃ SH, ʒ ZH, h HH, m M, n̩ AH N, n N, ŋ NG, l̩ AH L, l L, ɬ L,
    ɹ R, r R, j Y, w W, ɾ T, ʔ T, x K
"""
PHONES = {ipa: phones for ipa, *phones in (each.split() for each in IPA_TO_PHONES.split(","))}
IPA = re.compile("|".join(sorted(map(re.escape, PHONES), key=len, reverse=True)))
WEAK = {"a": ["AH"], "the": ["DH", "AH"]}  # eSpeak would spell the first, and stress the second


class Espeak:
    """Pronounces words; may replace `ssl_vc.tts.g2p.G2PModel` in a text model."""

    def __init__(self) -> None:
        found = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if found is None:
            raise ValueError("eSpeak NG is not installed; apt, brew or winget install espeak-ng, or use reader g2p.")
        self._program = found

    def phonemize(self, words: Sequence[str]) -> list[list[str]]:
        """Returns the phones of each word (letters and apostrophes)."""
        return [WEAK.get(word) or phones_of(line) for word, line in zip(words, self.ipa(words), strict=True)]

    def ipa(self, phrases: Sequence[str]) -> list[str]:
        """Returns each phrase in IPA; phrases have no punctuation."""
        if not phrases:
            return []
        # one sentence per phrase, hence one line of output
        command = [self._program, "-q", "--ipa", "-v", "en-us", "--stdin"]
        text = "".join(f"{phrase}.\n\n" for phrase in phrases)
        done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8", check=False)
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        if done.returncode or len(lines) != len(phrases):
            messages = done.stderr.strip().splitlines()
            raise ValueError(
                f"eSpeak NG wrote {len(lines)} lines for {len(phrases)} phrases ({messages[-1] if messages else 'ok'})."
            )
        return lines


def phones_of(ipa: str) -> list[str]:
    """Returns the phones of a word in IPA, without stress and length."""
    return [phone for symbol in IPA.findall(ipa) for phone in PHONES[symbol]]
