"""How good a copy sounds beside its original, by two standards of telephony; their packages are the extra `eval`.

Both are None where the package is missing, and where there is no speech to judge.
"""

import warnings
from importlib import import_module

from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE, SILENCE

PIECE = 12 * SAMPLE_RATE  # PESQ is made for sentences of 8 to 12 s, and its program crashes on minutes of speech


def pesq(original: Tensor, copy: Tensor) -> float | None:
    """Give wideband PESQ (ITU-T P.862.2), 1 (bad) to 4.64, of aligned wavs (samples,) at 16 kHz.

    A long clip is judged in pieces of at most 12 s; those without speech do not count.
    """
    try:
        judge = import_module("pesq")
    except ImportError:
        return None
    length = min(len(original), len(copy))
    size = -(-length // max(-(-length // PIECE), 1))
    scores = []
    for start in range(0, length, max(size, 1)):
        first, second = (wav[start : min(start + size, length)].numpy(force=True) for wav in (original, copy))
        if min(abs(first).max(), abs(second).max()) < SILENCE:
            continue  # it divides by the level
        try:
            scores.append(float(judge.pesq(SAMPLE_RATE, first, second, "wb")))
        except judge.PesqError:  # no utterance in it, or less than a quarter of a second
            continue
    return sum(scores) / len(scores) if scores else None


def stoi(original: Tensor, copy: Tensor) -> float | None:
    """Give the short-time objective intelligibility, 0 to 1, of aligned wavs (samples,) at 16 kHz.

    Taal, Hendriks, Heusdens and Jensen, 2011, "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted
    Noisy Speech".
    """
    try:
        judge = import_module("pystoi")
    except ImportError:
        return None
    length = min(len(original), len(copy))
    first, second = (wav[:length].double().numpy(force=True) for wav in (original, copy))
    if length < SAMPLE_RATE // 2 or abs(first).max() < SILENCE:
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(judge.stoi(first, second, SAMPLE_RATE))
        except RuntimeWarning:
            return None
