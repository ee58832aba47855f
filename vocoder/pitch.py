"""Pitch of speech: autocorrelation with its window divided out, then the cheapest path through the candidates.

Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound"
(1993): the autocorrelation of a windowed frame, divided by the window's own, has its peaks at the true height, so that
they can be compared across lags. Viterbi then weighs height against jumps, from frame to frame.

What is different here: the power spectrum is raised to 2/3 first, so that a strong formant cannot pass for a pitch, and
all above 2 kHz is left out; high pitches are read from a shorter window than low ones, since they move faster.

    samples   0         hop       2 hop     3 hop
              |---------|---------|---------|
    frame          0         1         2            each window is centred on the middle of its frame
    window    [====*====]
                        [====*====]                 3 periods of the lowest pitch for low pitches, 1.8 for high ones
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

NO_PITCH = 150.0  # Hz, the F0 of a clip that is nowhere voiced
CHUNK = 512  # windows computed at a time: they stay in the cache
CANDIDATES = 5
PERIODS = 3.0, 1.8  # lengths of the two windows, in periods of the lowest pitch
CROSSOVER = 1.5, 2.5  # the short window takes over between these multiples of the lowest pitch
CUTOFF = 1000.0  # Hz; what is above fades out, and is gone at twice this
COMPRESSION = 2 / 3

# Scores, on the scale of a correlation. A frame is voiced when its best peak, less VOICED, is worth the change.
VOICED = 0.45
OCTAVE = 0.065  # an octave higher is worth this much, or half the true pitch would be as good as the pitch
QUIET = 0.015  # of the loud frames' amplitude; a quieter frame needs a higher peak
JUMP = 0.5  # an octave from one frame of 20 ms to the next costs this much
CHANGE = 0.2  # and this, beginning or ending a voiced stretch


def track_pitch(
    wav: Tensor, sample_rate: int = 16_000, hop_length: int = 320, low: float = 60.0, high: float = 500.0
) -> Tensor:
    """Track the pitch of speech in Hz, 0 where there is none.

    Args:
        wav: (samples,) or (batch, samples).
        sample_rate: of the waveform, in Hz.
        hop_length: samples from one frame to the next; frame t is centred on sample (t + 1/2) hop_length.
        low: lowest pitch to look for, in Hz.
        high: highest pitch to look for, in Hz.

    Returns:
        (frames,) or (batch, frames), where frames = samples // hop_length.
    """
    search = _Search(sample_rate, hop_length, low, high)
    if wav.ndim not in (1, 2):
        raise ValueError(f"the sound has the shape {tuple(wav.shape)}; give (samples,) or (batch, samples).")
    if not wav.isfinite().all():
        raise ValueError("the sound has samples that are NaN or infinite; repair it first.")
    rows = wav.detach().float() if wav.ndim == 2 else wav.detach().float()[None]
    frames = wav.shape[-1] // hop_length
    if not len(rows) * frames:
        return rows.new_zeros(*wav.shape[:-1], frames)
    step = max(CHUNK // len(rows), 1)
    parts = [search.candidates(rows, start, min(start + step, frames)) for start in range(0, frames, step)]
    pitch, score, amplitude = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    loud = amplitude.quantile(0.95, dim=1, keepdim=True).clamp(min=1e-9)
    silence = VOICED + (2 - 2 * amplitude / (QUIET * loud)).clamp(min=0)
    chosen = _cheapest_path(silence, score, pitch.log2(), pace=0.02 * sample_rate / hop_length)
    unvoiced = torch.zeros_like(pitch[..., :1])
    return torch.cat([unvoiced, pitch], 2).gather(2, chosen[..., None]).reshape(*wav.shape[:-1], frames)


def log_through_unvoiced(f0: npt.NDArray[np.float64], voiced: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Give log-F0 (frames,), interpolated where it is unvoiced."""
    known = np.flatnonzero(voiced)
    if not len(known):
        return np.full(len(f0), math.log(NO_PITCH))
    return np.interp(np.arange(len(f0)), known, np.log(f0[known]))


@dataclass(frozen=True)
class _Search:
    """What is looked for, and where."""

    sample_rate: int
    hop_length: int
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.sample_rate < 8000 or self.hop_length < 1:
            raise ValueError(
                f"sample_rate {self.sample_rate}, hop_length {self.hop_length} do not do; give at least 8000 and 1."
            )
        if not 20 <= self.low < self.high <= CUTOFF:
            raise ValueError(
                f"pitch from {self.low} to {self.high} Hz was asked for; give 20 <= low < high <= {CUTOFF:.0f}."
            )

    @property
    def size(self) -> int:
        """Samples that are transformed: so many that no lag in question wraps around."""
        return 1 << math.ceil(math.log2((PERIODS[0] + 1) * self.sample_rate / self.low))

    @property
    def grid(self) -> int:
        """Lags that are computed: 11 to 23 of them a millisecond, whatever the sample rate."""
        return round(self.size * 2.0 ** round(math.log2(16_000 / self.sample_rate)))

    def candidates(self, rows: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Give pitch and score of the highest peaks (batch, frames, candidates), and amplitude (batch, frames)."""
        rate = self.sample_rate * self.grid / self.size
        lags = torch.arange(int(rate / self.high) - 1, int(rate / self.low) + 3, device=rows.device)
        octaves = (rate / self.low / lags).log2()
        begin, end = (math.log2(multiple) for multiple in CROSSOVER)
        share = ((octaves - begin) / (end - begin)).clamp(0, 1)
        long, amplitude = self.correlation(rows, start, stop, PERIODS[0])
        short, _ = self.correlation(rows, start, stop, PERIODS[1])
        curve = torch.lerp(long[..., lags], short[..., lags], share)

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
        """Correlate each frame with itself (batch, frames, grid), 1 at lag 0, and give amplitudes (batch, frames)."""
        half = round(periods / 2 * self.sample_rate / self.low)
        window = torch.hann_window(2 * half + 1, device=rows.device)[1:]  # symmetric about its middle
        first = start * self.hop_length + self.hop_length // 2 - half
        last = first + (stop - 1 - start) * self.hop_length + 2 * half
        stretch = F.pad(rows, (-first, last - rows.shape[1]))  # negative padding cuts
        frames = stretch.unfold(1, 2 * half, self.hop_length)
        frames = (frames - frames.mean(-1, keepdim=True)) * window
        bins = torch.arange(math.ceil(2 * CUTOFF * self.size / self.sample_rate), device=rows.device)
        frequency = bins * (self.sample_rate / self.size)
        fade = 0.5 + 0.5 * torch.cos(math.pi * (frequency / CUTOFF - 1).clamp(min=0))
        fade = fade * (frequency / 50).clamp(max=1).square()  # hum and rumble
        power = torch.fft.rfft(frames, self.size)[..., : len(fade)].abs().square() * fade
        seen = torch.fft.irfft(power**COMPRESSION, self.grid)
        own = torch.fft.irfft(torch.fft.rfft(window, self.size).abs() ** (2 * COMPRESSION), self.grid)
        curve = seen / seen[..., :1].clamp(min=1e-12) * (own[0] / own.clamp(min=1e-3 * own[0]))
        return curve, power.sum(-1).sqrt()


def _cheapest_path(silence: Tensor, score: Tensor, octave: Tensor, pace: float) -> Tensor:
    """Choose a candidate of each frame, or 0 for none: (batch, frames) from (batch, frames[, candidates])."""
    local = torch.cat([silence[..., None], score], dim=2).cpu()
    octave = octave.cpu()
    cost = local.new_full((*local.shape[:2], local.shape[2], local.shape[2]), CHANGE * pace)[:, 1:]
    cost[..., 0, 0] = 0
    cost[..., 1:, 1:] = (JUMP * pace) * (octave[:, 1:, None, :] - octave[:, :-1, :, None]).abs()
    total, origins = local[:, 0], []
    for step, gain in zip(cost.unbind(1), local.unbind(1)[1:], strict=True):
        best, origin = (total[:, :, None] - step).max(dim=1)
        total = gain + best - best[:, :1]  # kept small: sums over an hour would lose their last digits
        origins.append(origin)
    path = [total.argmax(dim=1, keepdim=True)]
    for origin in reversed(origins):
        path.append(origin.gather(1, path[-1]))
    return torch.cat(path[::-1], dim=1).to(score.device)


def level_of(pitch: Tensor) -> float:
    """Give the median F0 of a track in Hz (frames,), 0 where it is unvoiced."""
    voiced = pitch[pitch > 0]
    return float(voiced.median()) if len(voiced) else NO_PITCH
