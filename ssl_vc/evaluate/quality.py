"""How good a sound is: beside its original by two standards of telephony, alone by a model of listeners' opinions.

Their packages are the extra `eval`; PESQ and STOI are None where they are missing. All are None without speech.
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


class Opinion(NamedTuple):
    """What listeners would say of a sound, from 1 (bad) to 5 (excellent).

    Attributes:
        signal: how natural the voice is.
        background: how little is heard beside it.
        overall: both together.
    """

    signal: float
    background: float
    overall: float


class Dnsmos:
    """Guesses the opinion of listeners as ITU-T P.835 asks for it.

    Reddy, Gopal and Cutler, 2021, "DNSMOS P.835: A Non-Intrusive Perceptual Objective Speech Quality Metric to Evaluate
    Noise Suppressors" (arXiv 2110.01763). A model hears windows of 9.01 s, one from each second; polynomials bring what
    it says to the scale of the listeners.

    Args:
        path: the published `sig_bak_ovr.onnx`, not the one of personalised DNSMOS, whose polynomials are others.

    Attributes:
        description: which model judges, with the first digits of its file's SHA-256.
    """

    WINDOW = 144_160  # samples
    POLYNOMIALS = (  # of each score, from the constant on
        (0.0052439, 1.22083953, -0.08397278),
        (-0.39604546, 1.60915514, -0.13166888),
        (0.04602535, 1.11546468, -0.06766283),
    )

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            runtime = import_module("onnxruntime")
        except ImportError:
            raise ValueError("DNSMOS needs onnxruntime, which is missing; pip install 'ssl-vc[eval]'.") from None
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what goes wrong is raised
        name = repr(os.fspath(path))
        try:
            model = Path(path).read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise ValueError(f"{name} cannot be read: {reason}; give the published sig_bak_ovr.onnx.") from error
        try:
            self._session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's errors have no class in common
            raise ValueError(f"{name} is no ONNX model, or is damaged; give the published sig_bak_ovr.onnx.") from error
        shapes = [list(each.shape)[1:] for each in (*self._session.get_inputs(), *self._session.get_outputs())]
        if shapes != [[self.WINDOW], [len(self.POLYNOMIALS)]]:
            raise ValueError(
                f"{name} is no model of DNSMOS P.835, which gives 3 scores of {self.WINDOW} samples; "
                "give the published sig_bak_ovr.onnx."
            )
        self.description = f"DNSMOS P.835, {Path(path).name} ({sha256(model).hexdigest()[:8]})"

    def __call__(self, wav: Tensor) -> Opinion | None:
        """Judge a wav (samples,) at 16 kHz; None of silence. A short one is doubled until it fills a window."""
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
        return Opinion(*np.mean(scores, axis=0).tolist())
