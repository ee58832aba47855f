"""F0 tracking: window-normalised autocorrelation, then a Viterbi search through the candidates.

Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound"
(1993): the autocorrelation of a windowed frame, divided by the window's, has peaks of the true height, comparable
across lags. Viterbi then weighs height against jumps between frames.

What is different here: the power spectrum is raised to 2/3 first, so that no strong formant passes for F0, and
everything above 2 kHz is removed; high F0 is read from a shorter window than low F0, since it changes faster.

    samples   0         hop       2 hop     3 hop
              |---------|---------|---------|
    frame          0         1         2            each window is centred on its frame
    window    [====*====]
                        [====*====]                 3 periods of the lowest F0 for low F0, 1.8 for high F0
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

DEFAULT_F0 = 150.0  # Hz, for clips without a voiced frame
CHUNK = 512  # windows computed at a time, so that they fit the cache
CANDIDATES = 5
PERIODS = 3.0, 1.8  # lengths of the two windows, in periods of the lowest F0
CROSSOVER = 1.5, 2.5  # the short window takes over between these multiples of the lowest F0
CUTOFF = 1000.0  # Hz; the spectrum fades out from here to twice this
COMPRESSION = 2 / 3

# Scores and costs, on the scale of a correlation
VOICED = 0.45  # a peak must exceed this to be voiced
OCTAVE = 0.065  # bonus per octave, or half the true F0 would score as high as F0
QUIET = 0.015  # of the loud frames' amplitude; a quieter frame needs a higher peak
JUMP = 0.5  # cost of an octave between frames of 20 ms
CHANGE = 0.2  # cost of a voicing change


class Waveform(Protocol):
    """A long waveform (samples,) that is read by the slice."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, part: slice, /) -> Tensor:
        """Return some samples (samples,), which are finite."""


def track_pitch(
    wav: Tensor | Waveform, sample_rate: int = 16_000, hop_length: int = 320, low: float = 60.0, high: float = 500.0
) -> Tensor:
    """Track the F0 of speech in Hz, 0 where unvoiced.

    Args:
        wav: (samples,) or (batch, samples); or (samples,) that are read by the slice.
        sample_rate: of the waveform, in Hz.
        hop_length: samples from one frame to the next; frame t is centred on sample (t + 1/2) hop_length.
        low: lowest F0 to search for, in Hz.
        high: highest F0 to search for, in Hz.

    Returns:
        (frames,) or (batch, frames), where frames = samples // hop_length.
    """
    search = _CandidateSearch(sample_rate, hop_length, low, high)
    shape, samples, read = _checked(wav) if isinstance(wav, Tensor) else ((), len(wav), lambda part: wav[part][None])
    frames, rows = samples // hop_length, math.prod(shape)
    if not rows * frames:
        return read(slice(0)).new_zeros(*shape, frames)
    step, margin, found = max(CHUNK // rows, 1), search.margin, list[Tensor]()
    for start in range(0, frames, step):
        first, stop = max(start - margin, 0), min(start + step, frames)
        around = read(slice(first * hop_length, (stop + margin) * hop_length))
        parts = search.candidates(around, start - first, stop - first)
        # allocated at once: small tensors between large temporary ones would fragment the heap
        found = found or [part.new_empty(rows, frames, *part.shape[2:]) for part in parts]
        for whole, part in zip(found, parts, strict=True):
            whole[:, start:stop] = part
    pitch, score, amplitude = found
    loud = amplitude.quantile(0.95, dim=1, keepdim=True).clamp(min=1e-9)
    silence = VOICED + (2 - 2 * amplitude / (QUIET * loud)).clamp(min=0)
    chosen = _cheapest_path(silence, score, pitch.log2(), pace=0.02 * sample_rate / hop_length)
    unvoiced = torch.zeros_like(pitch[..., :1])
    return torch.cat([unvoiced, pitch], 2).gather(2, chosen[..., None]).reshape(*shape, frames)


def _checked(wav: Tensor) -> tuple[torch.Size, int, Callable[[slice], Tensor]]:
    """Returns the shape of a batch, the samples in each row, and a function that slices the rows."""
    if wav.ndim not in (1, 2):
        raise ValueError(f"the waveform has shape {tuple(wav.shape)}; it must be (samples,) or (batch, samples).")
    if not wav.isfinite().all():
        raise ValueError("the waveform has samples that are NaN or infinite; repair it first.")
    rows = wav.detach().float() if wav.ndim == 2 else wav.detach().float()[None]
    return wav.shape[:-1], wav.shape[-1], lambda part: rows[:, part]


def interpolate_log_f0(f0: npt.NDArray[np.float64], voiced: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Returns log-F0 (frames,), interpolated linearly through unvoiced frames."""
    known = np.flatnonzero(voiced)
    if not len(known):
        return np.full(len(f0), math.log(DEFAULT_F0))
    return np.interp(np.arange(len(f0)), known, np.log(f0[known]))


@dataclass(frozen=True)
class _CandidateSearch:
    """F0 candidates of frames, from their autocorrelation."""

    sample_rate: int
    hop_length: int
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.sample_rate < 8000 or self.hop_length < 1:
            raise ValueError(
                f"sample_rate is {self.sample_rate}, hop_length is {self.hop_length}; they must be at least 8000 and 1."
            )
        if not 20 <= self.low < self.high <= CUTOFF:
            raise ValueError(
                f"low is {self.low}, high is {self.high}; 20 <= low < high <= {CUTOFF:.0f} Hz is required."
            )

    @property
    def margin(self) -> int:
        """Frames on either side into which a window reaches."""
        return math.ceil(PERIODS[0] / 2 * self.sample_rate / self.low / self.hop_length) + 1

    @property
    def fft_size(self) -> int:
        """Long enough that no searched lag wraps around."""
        return 1 << math.ceil(math.log2((PERIODS[0] + 1) * self.sample_rate / self.low))

    @property
    def lag_count(self) -> int:
        """Lags computed: 11 to 23 per millisecond, at any sample rate."""
        return round(self.fft_size * 2.0 ** round(math.log2(16_000 / self.sample_rate)))

    def candidates(self, rows: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns F0 and score of the highest peaks (batch, frames, candidates), and amplitude (batch, frames)."""
        rate = self.sample_rate * self.lag_count / self.fft_size
        lags = torch.arange(int(rate / self.high) - 1, int(rate / self.low) + 3, device=rows.device)
        octaves = (rate / self.low / lags).log2()
        start_at, end_at = (math.log2(multiple) for multiple in CROSSOVER)
        weight = ((octaves - start_at) / (end_at - start_at)).clamp(0, 1)
        long, amplitude = self.correlation(rows, start, stop, PERIODS[0])
        short, _ = self.correlation(rows, start, stop, PERIODS[1])
        curve = torch.lerp(long[..., lags], short[..., lags], weight)

        left, middle, right = curve[..., :-2], curve[..., 1:-1], curve[..., 2:]
        count = min(CANDIDATES, middle.shape[-1])
        peak = (middle >= left) & (middle > right) & (middle > 0)
        best, index = (middle + OCTAVE * octaves[1:-1]).masked_fill(~peak, -math.inf).topk(count, dim=-1)
        a, b, c = (part.gather(-1, index) for part in (left, middle, right))
        offset = ((a - c) / (2 * (a - 2 * b + c)).clamp(max=-1e-9)).clamp(-0.5, 0.5)  # of a parabola's top
        pitch = rate / (lags[1:-1][index] + offset)
        score = (b - (a - c) * offset / 4).clamp(max=1) + OCTAVE * (pitch / self.low).log2()
        usable = best.isfinite() & (pitch >= self.low) & (pitch <= self.high)
        return pitch, score.masked_fill(~usable, -10.0), amplitude

    def correlation(self, rows: Tensor, start: int, stop: int, periods: float) -> tuple[Tensor, Tensor]:
        """Returns autocorrelations (batch, frames, lags), 1 at lag 0, and amplitudes (batch, frames)."""
        half = round(periods / 2 * self.sample_rate / self.low)
        window = torch.hann_window(2 * half + 1, device=rows.device)[1:]  # symmetric about its centre
        first = start * self.hop_length + self.hop_length // 2 - half
        last = first + (stop - 1 - start) * self.hop_length + 2 * half
        span = F.pad(rows, (-first, last - rows.shape[1]))  # negative padding crops
        frames = span.unfold(1, 2 * half, self.hop_length)
        frames = (frames - frames.mean(-1, keepdim=True)) * window
        bins = torch.arange(math.ceil(2 * CUTOFF * self.fft_size / self.sample_rate), device=rows.device)
        frequency = bins * (self.sample_rate / self.fft_size)
        fade = 0.5 + 0.5 * torch.cos(math.pi * (frequency / CUTOFF - 1).clamp(min=0))
        fade = fade * (frequency / 50).clamp(max=1).square()  # hum and rumble
        power = torch.fft.rfft(frames, self.fft_size)[..., : len(fade)].abs().square() * fade
        raw = torch.fft.irfft(power**COMPRESSION, self.lag_count)
        bias = torch.fft.irfft(torch.fft.rfft(window, self.fft_size).abs() ** (2 * COMPRESSION), self.lag_count)
        curve = raw / raw[..., :1].clamp(min=1e-12) * (bias[0] / bias.clamp(min=1e-3 * bias[0]))
        return curve, power.sum(-1).sqrt()


def _cheapest_path(silence: Tensor, score: Tensor, octave: Tensor, pace: float) -> Tensor:
    """Returns each frame's candidate (batch, frames), 0 for unvoiced, from (batch, frames[, candidates])."""
    local = torch.cat([silence[..., None], score], dim=2).cpu()
    octave = octave.cpu()
    total, blocks = local[:, 0], []
    for start in range(0, local.shape[1] - 1, CHUNK):  # a tensor for each of an hour's frames would fill memory
        here, gains = octave[:, start : start + CHUNK + 1], local[:, start + 1 : start + CHUNK + 1]
        cost = local.new_full((*gains.shape, local.shape[2]), CHANGE * pace)
        cost[..., 0, 0] = 0
        cost[..., 1:, 1:] = (JUMP * pace) * (here[:, 1:, None, :] - here[:, :-1, :, None]).abs()
        origins = []
        for step, gain in zip(cost.unbind(1), gains.unbind(1), strict=True):
            best, origin = (total[:, :, None] - step).max(dim=1)
            total = gain + best - best[:, :1]  # kept small: sums over an hour would lose precision
            origins.append(origin)
        blocks.append(torch.stack(origins))
    path = torch.empty(local.shape[:2], dtype=torch.long)
    path[:, -1] = total.argmax(dim=1)
    frame = local.shape[1] - 1
    for block in reversed(blocks):
        for origin in block.flip(0):
            path[:, frame - 1] = origin.gather(1, path[:, frame, None])[:, 0]
            frame -= 1
    return path.to(score.device)


def voiced_median(pitch: Tensor) -> float:
    """Returns the median over voiced frames of an F0 track (frames,), in Hz with 0 for unvoiced."""
    voiced = pitch[pitch > 0]
    return float(voiced.median()) if len(voiced) else DEFAULT_F0
