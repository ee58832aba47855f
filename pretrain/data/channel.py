"""Channel augmentation: a random frequency response, as of another microphone, room and line.

The response has random gains at knots evenly spaced on the mel scale, and a random level. One in three clips is also
low-passed, like speech from telephones, old recordings and lossy formats.

dB  +10 |   .-.
      0 |--'   `.
    -10 |        `-|_
        0         8 kHz
"""

import numpy as np
from scipy import fft

from pretrain.data.manifest import Samples
from pretrain.encoder.framing import SAMPLE_RATE

KNOTS, GAIN_STD, LEVEL = 7, 5.0, 10.0  # number, dB (standard deviation of each), dB (maximum, up or down)
LOWPASS, MIN_CUTOFF, SLOPE = 1 / 3, 3000.0, 0.1  # probability, Hz, dB per Hz above the cutoff


def random_channel(wav: Samples, rng: np.random.Generator) -> Samples:
    """Filter a clip (samples,) by a random channel, with zero delay."""
    size = fft.next_fast_len(len(wav) + 1024, real=True)
    hertz = np.linspace(0.0, SAMPLE_RATE / 2, size // 2 + 1)
    mel = np.log1p(hertz / 700.0)
    decibels = np.interp(mel, np.linspace(0.0, mel[-1], KNOTS), rng.normal(0.0, GAIN_STD, KNOTS))
    decibels += rng.uniform(-LEVEL, LEVEL)
    if rng.random() < LOWPASS:
        cutoff = np.exp(rng.uniform(np.log(MIN_CUTOFF), np.log(SAMPLE_RATE / 2)))
        decibels -= SLOPE * (hertz - cutoff).clip(0.0, 1000.0)
    spectrum = fft.rfft(wav, size) * (10.0 ** (decibels / 20.0)).astype(np.float32)
    return np.asarray(fft.irfft(spectrum, size)[: len(wav)], dtype=np.float32)
