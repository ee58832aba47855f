"""MFCC with deltas, the features of the first iteration's labels (Hsu et al. 2021, "HuBERT", arXiv 2106.07447).

13 cepstral coefficients of 25 ms every 10 ms, as in Kaldi, with their first and second derivatives. The encoder's frame
t corresponds to step 2t:

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

from pretrain.encoder.framing import HOP, RECEPTIVE_FIELD, num_frames

STEP = HOP // 2  # 10 ms
BINS, LOW, HIGH = 23, 20.0, 8000.0  # mel bands and their outer edges in Hz
NUM_CEPSTRA = 13  # cepstral coefficients, c0 among them
LIFTER = 22
EMPHASIS = 0.97
FFT = 512
FLOOR = torch.finfo(torch.float32).eps  # of a band's energy, for waveforms within -1 .. 1
BLOCK = 3000  # steps computed at a time, to bound memory
DIM = 3 * NUM_CEPSTRA
Array = npt.NDArray[np.float64]


def mfcc(wav: Tensor) -> Tensor:
    """Return 13 coefficients, their deltas and double deltas, every 10 ms.

    Args:
        wav: (batch, samples) at 16 kHz, within -1 .. 1.

    Returns:
        (batch, (samples - 400) // 160 + 1, 39)
    """
    if wav.ndim != 2 or wav.shape[1] < RECEPTIVE_FIELD:
        raise ValueError(
            f"wav has shape {tuple(wav.shape)}; it must be (batch, samples), with at least {RECEPTIVE_FIELD} samples."
        )
    wav = wav.float()
    tables = [torch.from_numpy(table.astype(np.float32)).to(wav.device) for table in (_window(), _bands(), _cosines())]
    starts = range(0, (wav.shape[1] - RECEPTIVE_FIELD) // STEP + 1, BLOCK)
    parts = (wav[:, start * STEP : (start + BLOCK - 1) * STEP + RECEPTIVE_FIELD] for start in starts)
    static = torch.cat([_cepstra(part, *tables) for part in parts], dim=1)
    first = deltas(static)
    return torch.cat([static, first, deltas(first)], dim=2)


def frame_mfcc(wav: Tensor) -> Tensor:
    """Map (batch, samples) at 16 kHz to (batch, frames, 39), one row per frame of the encoder."""
    return mfcc(wav)[:, ::2][:, : num_frames(wav.shape[1])]


def deltas(steps: Tensor) -> Tensor:
    """Return the slope of a line fit to each step and two on both sides (batch, steps, dim); edges are repeated."""
    wide = torch.cat([steps[:, :1], steps[:, :1], steps, steps[:, -1:], steps[:, -1:]], dim=1)
    return (wide[:, 3:-1] - wide[:, 1:-3]) / 10 + (wide[:, 4:] - wide[:, :-4]) / 5


def _cepstra(wav: Tensor, window: Tensor, bands: Tensor, cosines: Tensor) -> Tensor:
    # each step is centred by its mean m, then pre-emphasised; except for its first sample, that equals the whole
    # waveform pre-emphasised, minus (1 - a) m
    emphasised = wav.clone()
    emphasised[:, 1:] -= EMPHASIS * wav[:, :-1]
    steps, plain = emphasised.unfold(1, RECEPTIVE_FIELD, STEP).clone(), wav.unfold(1, RECEPTIVE_FIELD, STEP)
    steps[:, :, 0] = (1 - EMPHASIS) * plain[:, :, 0]
    steps -= (1 - EMPHASIS) * plain.mean(2, keepdim=True)
    spectra = torch.fft.rfft(steps.mul_(window), n=FFT)
    energy = (spectra.real.square() + spectra.imag.square()) @ bands
    return energy.clamp(min=FLOOR).log() @ cosines


def _window() -> Array:
    """Return Povey's window (samples,), a slightly wider Hann window."""
    return np.hanning(RECEPTIVE_FIELD) ** 0.85


def _bands() -> Array:
    """Return filters (bins, bands) that are triangular on the mel scale."""
    mel = _mel(np.linspace(0, 8000, FFT // 2 + 1))[:, None]
    edges = np.linspace(_mel(LOW), _mel(HIGH), BINS + 2)
    return np.minimum(mel - edges[:-2], edges[2:] - mel).clip(0) / (edges[1] - edges[0])


def _mel(hertz: Array | float) -> Array:
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def _cosines() -> Array:
    """Return the liftered cosine transform (bands, coefficients)."""
    order = np.arange(NUM_CEPSTRA)
    cosines = np.cos(np.pi / BINS * order * (np.arange(BINS)[:, None] + 0.5)) * (2 / BINS) ** 0.5
    cosines[:, 0] *= 0.5**0.5
    return cosines * (1 + LIFTER / 2 * np.sin(np.pi * order / LIFTER))
