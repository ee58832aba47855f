"""Audio quality: PESQ and STOI against an original, DNSMOS without one.

Their packages come with the extra `eval`; PESQ and STOI are None where they are missing. All are None without speech.
"""

import os
import warnings
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE, SILENCE
from ssl_vc.hub.onnx_session import open_session

PESQ_SEGMENT = 12 * SAMPLE_RATE  # PESQ is defined for sentences of 8 to 12 s, and its code crashes on minutes


def pesq(original: Tensor, copy: Tensor) -> float | None:
    """Returns wideband PESQ (ITU-T P.862.2), 1 (bad) to 4.64, of aligned wavs (samples,) at 16 kHz.

    A long clip is the mean over segments of at most 12 s, without those that hold no speech.
    """
    try:
        package = import_module("pesq")
    except ImportError:
        return None
    length = min(len(original), len(copy))
    size = -(-length // max(-(-length // PESQ_SEGMENT), 1))
    scores = []
    for start in range(0, length, max(size, 1)):
        first, second = (wav[start : min(start + size, length)].numpy(force=True) for wav in (original, copy))
        if min(abs(first).max(), abs(second).max()) < SILENCE:
            continue  # PESQ divides by the level
        try:
            scores.append(float(package.pesq(SAMPLE_RATE, first, second, "wb")))
        except package.PesqError:  # no utterance in it, or less than a quarter of a second
            continue
    return sum(scores) / len(scores) if scores else None


def stoi(original: Tensor, copy: Tensor) -> float | None:
    """Returns the short-time objective intelligibility, 0 to 1, of aligned wavs (samples,) at 16 kHz.

    Taal, Hendriks, Heusdens and Jensen, 2011, "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted
    Noisy Speech".
    """
    try:
        package = import_module("pystoi")
    except ImportError:
        return None
    length = min(len(original), len(copy))
    first, second = (wav[:length].double().numpy(force=True) for wav in (original, copy))
    if length < SAMPLE_RATE // 2 or abs(first).max() < SILENCE:
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(package.stoi(first, second, SAMPLE_RATE))
        except RuntimeWarning:
            return None


class DnsmosScores(NamedTuple):
    """Predicted P.835 ratings, 1 (bad) to 5 (excellent).

    Attributes:
        signal: speech quality.
        background: absence of background noise.
        overall: both together.
    """

    signal: float
    background: float
    overall: float


class Dnsmos:
    """Predicts listeners' ratings by ITU-T P.835.

    Reddy, Gopal and Cutler, 2021, "DNSMOS P.835: A Non-Intrusive Perceptual Objective Speech Quality Metric to Evaluate
    Noise Suppressors" (arXiv 2110.01763). A network rates windows of 9.01 s, one per second; polynomials map its
    output to the listeners' scale.

    Args:
        path: the published `sig_bak_ovr.onnx`, not that of personalised DNSMOS, whose polynomials differ.

    Attributes:
        description: the model, with the first digits of its file's SHA-256.
    """

    WINDOW = 144_160  # samples
    POLYNOMIALS = (  # per score, constant term first
        (0.0052439, 1.22083953, -0.08397278),
        (-0.39604546, 1.60915514, -0.13166888),
        (0.04602535, 1.11546468, -0.06766283),
    )

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import_module("onnxruntime")
        except ImportError:
            raise ValueError("DNSMOS needs onnxruntime, which is missing; pip install 'ssl-vc[eval]'.") from None
        name = repr(os.fspath(path))
        try:
            model = Path(path).read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise ValueError(f"{name} cannot be read: {reason}; use the published sig_bak_ovr.onnx.") from error
        damaged = f"{name} is no ONNX model, or is damaged; use the published sig_bak_ovr.onnx."
        self._session = open_session(model, torch.get_num_threads(), damaged)
        shapes = [list(each.shape)[1:] for each in (*self._session.get_inputs(), *self._session.get_outputs())]
        if shapes != [[self.WINDOW], [len(self.POLYNOMIALS)]]:
            raise ValueError(
                f"{name} is not the model of DNSMOS P.835, which maps {self.WINDOW} samples to 3 scores; "
                "use the published sig_bak_ovr.onnx."
            )
        self.description = f"DNSMOS P.835, {Path(path).name} ({sha256(model).hexdigest()[:8]})"

    def __call__(self, wav: Tensor) -> DnsmosScores | None:
        """Rate a wav (samples,) at 16 kHz, repeated until it fills a window; None for silence."""
        if not len(wav) or wav.abs().max() < SILENCE:
            return None
        while len(wav) < self.WINDOW:
            wav = torch.cat([wav, wav])
        name = self._session.get_inputs()[0].name
        samples = wav.float().numpy(force=True)
        scores = []
        for second in range(max(len(wav) // SAMPLE_RATE - 9, 1)):
            window = samples[None, second * SAMPLE_RATE :][:, : self.WINDOW]
            (raw,) = self._session.run(None, {name: window})
            scores.append(
                [np.polynomial.polynomial.polyval(*each) for each in zip(raw[0], self.POLYNOMIALS, strict=True)]
            )
        return DnsmosScores(*np.mean(scores, axis=0).tolist())
