"""Spectrograms and waveforms as PNG images, without a plotting library.

An image of an hour costs as little as one of a second: there are at most `WIDTH` columns, with one spectrum each.
"""

import struct
import zlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vocoder.mel import Mel, MelConfig

WIDTH = 800
BANDS = 64
LOWEST, HIGHEST = 40.0, 8000.0  # Hz; fixed, so that all sample rates share one axis
RANGE = 72.0  # dB from darkest to brightest
# perceptually uniform: lightness rises evenly
ANCHORS = ("#07060d", "#231a52", "#5b2280", "#9c2b78", "#d74858", "#f5823a", "#fac24b", "#fcfbd0")

Pixels = npt.NDArray[np.uint8]


def spectrogram(wav: Tensor, sample_rate: int, *, height: int = 160, level: float | None = None) -> bytes:
    """Returns the mel spectrogram of a wav (samples,) up to 8 kHz as a PNG, low frequencies at the bottom.

    Args:
        wav: (samples,).
        sample_rate: in Hz.
        height: in pixels.
        level: peak amplitude that the colours are scaled to, to make images comparable; that of the wav if None.
    """
    size = 2 * round(0.024 * sample_rate)  # 48 ms resolves both harmonics and syllables
    wav, hop = _whole_hops(wav, sample_rate)
    if hop > size:  # far more samples than columns: each column shows its first window
        wav, hop = wav.unfold(0, size, hop).flatten(), size
    config = MelConfig(
        sample_rate, size, hop, BANDS, LOWEST, min(HIGHEST, sample_rate / 2), scale="htk", epsilon=0.0, floor=1e-9
    )
    decibels = 20 / np.log(10) * Mel(config)(wav[None])[0].T - 20 * np.log10(size / 4)  # 0 dB is a sine of amplitude 1
    top = 20 * np.log10(max(_peak(wav) if level is None else level, 1e-4)) - 4  # a peak sums many harmonics
    shade = ((decibels - top) / RANGE + 1).clamp(0, 1)
    shade = torch.nn.functional.interpolate(shade[None, None], (height, shade.shape[1]), mode="bilinear")[0, 0]
    return png((shade.flip(0) * (len(COLOURS) - 1)).round().byte().numpy(), COLOURS)


def waveform(wav: Tensor, sample_rate: int, *, height: int = 48, level: float | None = None) -> bytes:
    """Returns the waveform of a wav (samples,) as a PNG as wide as its spectrogram; arguments as there."""
    wav, hop = _whole_hops(wav, sample_rate)
    columns = wav.view(-1, hop)
    scale = max(_peak(wav) if level is None else level, 1e-4)
    top, bottom = ((1 - edge / scale) / 2 * (height - 1) for edge in (columns.amax(1), columns.amin(1)))
    row = torch.arange(height)[:, None]
    inside = (row >= top.floor()) & (row <= bottom.ceil())
    return png(inside.byte().numpy(), COLOURS[[0, round(0.8 * len(COLOURS))]])


def png(indices: Pixels, palette: Pixels) -> bytes:
    """Encode an image: indices (height, width) into a palette (colours, 3) of RGB."""
    height, width = indices.shape
    rows = np.hstack([np.zeros((height, 1), np.uint8), indices])  # filter type 0 before each row
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8-bit palette
    parts = (b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def _whole_hops(wav: Tensor, sample_rate: int) -> tuple[Tensor, int]:
    """Pad or cut a wav to whole columns, at least one; returns also the samples per column."""
    hop = max(sample_rate // 200, -(-len(wav) // WIDTH))
    return torch.nn.functional.pad(wav, (0, max(len(wav) // hop, 1) * hop - len(wav))), hop


def _peak(wav: Tensor) -> float:
    return float(wav.abs().max()) if len(wav) else 0.0


def _gradient(anchors: tuple[str, ...], count: int = 96) -> Pixels:
    """Returns a palette (count, 3) through evenly spaced anchors."""
    colours = np.array([[int(anchor[i : i + 2], 16) for i in (1, 3, 5)] for anchor in anchors])
    positions = np.linspace(0, len(anchors) - 1, count)
    return (
        np.stack([np.interp(positions, range(len(anchors)), channel) for channel in colours.T], 1).round().astype("u1")
    )


COLOURS = _gradient(ANCHORS)
