"""Synthesize the clips of this folder: python demos/samples/make.py KOKORO_FOLDER (extra `synth`, and a G2P)."""

import sys
from pathlib import Path

import torch

import ssl_vc
from ssl_vc.parallel.g2p import load_g2p
from ssl_vc.parallel.kokoro import SAMPLE_RATE, Kokoro

SENTENCE = (
    "The north wind and the sun were disputing which was the stronger, when a traveller came along, "
    "wrapped in a warm cloak."
)
VOICES = "af_heart", "af_bella", "bf_emma", "am_michael", "am_fenrir", "bm_george"
PASSAGE = """They agreed that the one who first succeeded in making the traveller take his cloak off should be
considered stronger than the other. Then the north wind blew as hard as he could, but the more he blew, the more closely
did the traveller fold his cloak around him; and at last the north wind gave up the attempt. Then the sun shone out
warmly, and immediately the traveller took off his cloak. And so the north wind was obliged to confess that the sun was
the stronger of the two. Gentle ways often reach what force cannot: five good voices, a measured pace, and the joy of
young shepherds will charm a village that no shouting ever woke. Which path would you choose, through thick fog, with
azure skies above?"""


def main(kokoro: str) -> None:
    """Write source.flac and a clip of each voice."""
    model, g2p, folder = Kokoro(kokoro), load_g2p(), Path(__file__).parent
    clips = {"source.flac": ("am_liam", SENTENCE)} | {f"{voice[3:]}.opus": (voice, PASSAGE) for voice in VOICES}
    for name, (voice, text) in clips.items():
        own = {voice: 1.0}
        parts = [model.synthesize(phones, own, own) for phones in g2p.phonemize(" ".join(text.split()))]
        ssl_vc.write(folder / name, torch.cat(parts), SAMPLE_RATE)


if __name__ == "__main__":
    main(sys.argv[1])
