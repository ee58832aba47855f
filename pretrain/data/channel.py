"""Another channel: a clip as another microphone, room and line would have brought it.

A random curve goes through knots equally far apart on the mel scale, and all of it is louder or softer. In one of three
clips there is nothing above some frequency, as in speech of telephones, old recordings and lossy formats.

dB  +10 |   .-.
      0 |--'   `.
    -10 |        `-|_
        0         8 kHz
"""

import numpy as np
from scipy import fft

from pretrain.data.manifest import SAMPLE_RATE, Samples

KNOTS, CURVE, LEVEL = 7, 5.0, 10.0  # how many, dB (standard deviation of each), dB (at most, either way)
LOWPASS, LOWEST, SLOPE = 1 / 3, 3000.0, 0.1  # how many clips, Hz, dB for each Hz above


def other_channel(wav: Samples, rng: np.random.Generator) -> Samples:
    """Bring a clip (samples,) through a channel drawn at random; nothing is delayed."""
    size = fft.next_fast_len(len(wav) + 1024, real=True)
    hertz = np.linspace(0.0, SAMPLE_RATE / 2, size // 2 + 1)
    mel = np.log1p(hertz / 700.0)
    decibels = np.interp(mel, np.linspace(0.0, mel[-1], KNOTS), rng.normal(0.0, CURVE, KNOTS))
    decibels += rng.uniform(-LEVEL, LEVEL)
    if rng.random() < LOWPASS:
        edge = np.exp(rng.uniform(np.log(LOWEST), np.log(SAMPLE_RATE / 2)))
        decibels -= SLOPE * (hertz - edge).clip(0.0, 1000.0)
    spectrum = fft.rfft(wav, size) * (10.0 ** (decibels / 20.0)).astype(np.float32)
    return np.asarray(fft.irfft(spectrum, size)[: len(wav)], dtype=np.float32)
