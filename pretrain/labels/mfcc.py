"""MFCC with deltas: what the first labels are clustered from (Hsu et al. 2021, "HuBERT", arXiv 2106.07447).

A frame of 25 ms every 10 ms is turned into 13 cepstral coefficients as Kaldi does it, and their first and second
derivatives are put beside them. The encoder's frame t is every other one of these, number 2t:

    samples    0   160   320   480   640
               |-----|-----|-----|-----|---
    step 0     [=============]                   frame 0   400 samples = 25 ms
    step 1           [=============]
    step 2                 [=============]       frame 1
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretrain.encoder.frontend import FIELD, HOP

STEP = HOP // 2  # 10 ms
BINS, LOW, HIGH = 23, 20.0, 8000.0  # mel bands and their outer edges in Hz
COUNT = 13  # cepstral coefficients, c0 among them
LIFTER = 22
EMPHASIS = 0.97
FFT = 512
FLOOR = torch.finfo(torch.float32).eps  # of the energy in a band; for sound within -1 .. 1 as here
BLOCK = 3000  # steps computed at a time, so that memory stays bounded
DIM = 3 * COUNT
Numbers = npt.NDArray[np.float64]


def mfcc(wav: Tensor) -> Tensor:
    """Give 13 coefficients, their deltas and double deltas, every 10 ms.

    Args:
        wav: (batch, samples) at 16 kHz, within -1 .. 1.

    Returns:
        (batch, (samples - 400) // 160 + 1, 39)
    """
    if wav.ndim != 2 or wav.shape[1] < FIELD:
        raise ValueError(f"wav has the shape {tuple(wav.shape)}; give (batch, samples), at least {FIELD} samples.")
    wav = wav.float()
    tables = [torch.from_numpy(table.astype(np.float32)).to(wav.device) for table in (_window(), _bands(), _cosines())]
    starts = range(0, (wav.shape[1] - FIELD) // STEP + 1, BLOCK)
    parts = (wav[:, start * STEP : (start + BLOCK - 1) * STEP + FIELD] for start in starts)
    static = torch.cat([_cepstra(part, *tables) for part in parts], dim=1)
    first = deltas(static)
    return torch.cat([static, first, deltas(first)], dim=2)


def frame_mfcc(wav: Tensor) -> Tensor:
    """Map (batch, samples) at 16 kHz to (batch, frames, 39), a row for every frame of the encoder."""
    return mfcc(wav)[:, ::2][:, : (wav.shape[1] - FIELD) // HOP + 1]


def deltas(steps: Tensor) -> Tensor:
    """Fit a line to each step and two on both sides (batch, steps, dim), and give its slope; the edges are repeated."""
    wide = torch.cat([steps[:, :1], steps[:, :1], steps, steps[:, -1:], steps[:, -1:]], dim=1)
    return (wide[:, 3:-1] - wide[:, 1:-3]) / 10 + (wide[:, 4:] - wide[:, :-4]) / 5


def _cepstra(wav: Tensor, window: Tensor, bands: Tensor, cosines: Tensor) -> Tensor:
    # each step is to lose its mean m, then to be pre-emphasised, its first sample by itself; that is the whole wav
    # pre-emphasised, less (1 - a) m in each step, but for the first sample
    sharp = wav.clone()
    sharp[:, 1:] -= EMPHASIS * wav[:, :-1]
    steps, plain = sharp.unfold(1, FIELD, STEP).clone(), wav.unfold(1, FIELD, STEP)
    steps[:, :, 0] = (1 - EMPHASIS) * plain[:, :, 0]
    steps -= (1 - EMPHASIS) * plain.mean(2, keepdim=True)
    spectra = torch.fft.rfft(steps.mul_(window), n=FFT)
    energy = (spectra.real.square() + spectra.imag.square()) @ bands
    return energy.clamp(min=FLOOR).log() @ cosines


def _window() -> Numbers:
    """Make Povey's window (samples,), a Hann window a little wider."""
    return np.hanning(FIELD) ** 0.85


def _bands() -> Numbers:
    """Make triangles (bins of the spectrum, bands) that are straight on the mel scale."""
    mel = _mel(np.linspace(0, 8000, FFT // 2 + 1))[:, None]
    edges = np.linspace(_mel(LOW), _mel(HIGH), BINS + 2)
    return np.minimum(mel - edges[:-2], edges[2:] - mel).clip(0) / (edges[1] - edges[0])


def _mel(hertz: Numbers | float) -> Numbers:
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def _cosines() -> Numbers:
    """Make the liftered cosine transform (bands, coefficients)."""
    order = np.arange(COUNT)
    cosines = np.cos(np.pi / BINS * order * (np.arange(BINS)[:, None] + 0.5)) * (2 / BINS) ** 0.5
    cosines[:, 0] *= 0.5**0.5
    return cosines * (1 + LIFTER / 2 * np.sin(np.pi * order / LIFTER))
