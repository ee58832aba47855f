"""WORLD: analysis into F0, envelope and aperiodicity, and synthesis, without training. Needs the extra `world`.

Morise, Yokomori and Ozawa, "WORLD: a vocoder-based high-quality speech synthesis system for real-time applications"
(2016); F0 by Harvest (Morise, 2017) or DIO, envelope by CheapTrick, aperiodicity by D4C, through pyworld.

What is different here: a frame holds one or more of WORLD's, centred on its samples, where WORLD's first is on sample
0; F0 is interpolated through unvoiced frames and stored beside the voicing, so that frames can be averaged.

    samples   0         hop       2 hop
              |---------|---------|---
    ours      |    0    |    1    |
    WORLD's   | *     * | *     * |               two subframes

Long clips are synthesized in windows. WORLD counts pulses from the start of its input, so each window starts with a
lead-in whose F0 aligns its pulses with those of the window before where the two are cross-faded:

    window 1   |======= core 1 =======|-context-|
    window 2              |lead-in|---|======= core 2 =======|-context-|
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vocoder.pitch import DEFAULT_F0, interpolate_log_f0
from vocoder.protocol import generate_by_length
from vocoder.streaming import Streaming, windows

Array = npt.NDArray[np.float64]

CORE, CONTEXT = 10.0, 0.5  # seconds of a window, and on either side: analysing a minute at once takes a gigabyte
FADE = 0.005  # seconds of cross-fade between windows: of their noise only, since the pulses are aligned
UNVOICED_RATE = 500.0  # Hz, at which WORLD generates noise segments in unvoiced speech
PERIOD_SCALE = 1 + 1e-9  # of a subframe: or rounding decides the voicing of samples half-way between subframes
MAX_ENVELOPE = 1e12  # power, far above any speech, that still gives a finite waveform


@dataclass(frozen=True)
class WorldConfig:
    """The parameters of WORLD analysis.

    Attributes:
        sample_rate: of the waveform, in Hz.
        hop_length: samples from one frame to the next.
        subframes: WORLD frames per frame.
        cepstra: cepstral coefficients per envelope.
        tracker: of F0: `harvest`, or `dio`, which is faster and less accurate.
        low: lowest F0, in Hz.
        high: highest F0, in Hz.
    """

    sample_rate: int = 16_000
    hop_length: int = 320
    subframes: int = 2
    cepstra: int = 40
    tracker: str = "harvest"
    low: float = 60.0
    high: float = 800.0

    def __post_init__(self) -> None:
        if self.sample_rate < 12_000:
            raise ValueError(f"sample_rate is {self.sample_rate}; WORLD's aperiodicity needs at least 12000 Hz.")
        if self.subframes < 1 or self.hop_length < 1 or self.hop_length % self.subframes:
            raise ValueError(f"hop_length is {self.hop_length}; it must be a multiple of subframes, {self.subframes}.")
        if not 2 <= self.cepstra <= 100:
            raise ValueError(f"cepstra is {self.cepstra}; it must be from 2 to 100.")
        if self.tracker not in ("harvest", "dio"):
            raise ValueError(f"tracker is {self.tracker!r}; it must be 'harvest' or 'dio'.")
        if not 40 <= self.low <= 150 < self.high <= 2000:
            raise ValueError(f"low is {self.low}, high is {self.high}; 40 <= low <= 150 < high <= 2000 is required.")


class World(Streaming, nn.Module):
    """Analysis of a waveform (samples,) into frames (frames, dim), and synthesis from frames (batch, frames, dim).

    A frame's columns are `pitch` (log-F0, F0 in Hz), `voicing` (0 to 1), `envelope` (cepstra of the log-envelope) and
    `aperiodicity` (in dB), each for all subframes in order. `analyze`, `stream` and `synthesize` work in windows (a
    clip within one window equals `forward`); `forward` holds whole clips in memory, about 2 MB per second.

    Args:
        config: the analysis parameters.
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or WorldConfig()
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.bands: int = _pyworld().get_num_aperiodicities(config.sample_rate)
        self.fft_size: int = _pyworld().get_cheaptrick_fft_size(config.sample_rate, config.low)
        self.dim = config.subframes * (2 + config.cepstra + self.bands)

    @property
    def reads(self) -> dict[str, Any]:
        """The input features."""
        return {"kind": "world", **asdict(self.config)}

    @property
    def pitch(self) -> slice:
        """The log-F0 columns."""
        return slice(0, self.config.subframes)

    @property
    def voicing(self) -> slice:
        """The voicing columns."""
        return slice(self.pitch.stop, 2 * self.config.subframes)

    @property
    def envelope(self) -> slice:
        """The columns of envelope cepstra, subframe by subframe."""
        return slice(self.voicing.stop, self.voicing.stop + self.config.subframes * self.config.cepstra)

    @property
    def loudness(self) -> slice:
        """The columns of the first cepstra (the mean log-envelope over frequency) of all subframes."""
        return slice(self.envelope.start, self.envelope.stop, self.config.cepstra)

    @property
    def aperiodicity(self) -> slice:
        """The columns of coded aperiodicity, subframe by subframe."""
        return slice(self.envelope.stop, self.dim)

    def analyze(self, wav: Tensor) -> Tensor:
        """Returns the frames (samples // hop_length, dim) of a waveform (samples,), on its device."""
        if wav.ndim != 1:
            raise ValueError(f"the waveform has shape {tuple(wav.shape)}; it must be (samples,).")
        if not wav.isfinite().all():
            raise ValueError("the waveform has samples that are NaN or infinite; repair it first.")
        if not (frames := len(wav) // self.hop_length):
            return wav.new_zeros(0, self.dim, dtype=torch.float32)
        count = frames * self.config.subframes
        core = math.ceil(CORE * self.sample_rate / self._step)
        parts = [self._analyze_window(wav, start, min(start + core, count)) for start in range(0, count, core)]
        f0, *columns = (np.concatenate(part) for part in zip(*parts, strict=True))
        columns.insert(0, interpolate_log_f0(f0, columns[0] > 0))
        return torch.from_numpy(np.hstack([part.reshape(frames, -1) for part in columns])).float().to(wav.device)

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Returns waveforms (batch, frames * hop_length) for frames (batch, frames, dim), zero beyond each length."""
        return generate_by_length(self, self._generate, frames, lengths)

    def _vocode(self, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
        hop, fade = self.hop_length, round(FADE * self.sample_rate)
        fade_in, tail, pulses = (np.arange(fade) + 0.5) / fade, np.zeros(fade), 0.0
        core, context = (math.ceil(seconds * self.sample_rate / hop) for seconds in (CORE, CONTEXT))
        for window, start, stop in windows((chunk.cpu() for chunk in chunks), core, context):
            frames = window.double().numpy()
            f0 = self._lead_in(self._f0(frames), start, pulses) if start else self._f0(frames)
            wav = self._synthesize(frames, f0)
            samples = wav[start * hop : stop * hop]
            if start:
                samples[:fade] = fade_in * samples[:fade] + (1 - fade_in) * tail
            yield torch.from_numpy(samples).float()
            tail, pulses = wav[stop * hop :][:fade].copy(), self._pulse_count(f0, stop)

    def shift_pitch(self, frames: Tensor, semitones: float) -> Tensor:
        """Returns frames (..., frames, dim) with F0 shifted by some semitones and the same envelope."""
        shifted = frames.clone()
        shifted[..., self.pitch] += semitones * math.log(2) / 12
        return shifted

    def set_median_pitch(self, frames: Tensor, hertz: float) -> Tensor:
        """Returns frames (..., frames, dim) with F0 shifted so that its median over voiced frames is `hertz`."""
        if not 0 < hertz < math.inf:
            raise ValueError(f"the median F0 is {hertz} Hz; it must be a positive number of Hz.")
        pitch = frames[..., self.pitch].flatten(-2)
        voiced = frames[..., self.voicing].flatten(-2) >= 0.5
        voiced = voiced | ~voiced.any(-1, keepdim=True)
        median = pitch.masked_fill(~voiced, math.nan).nanmedian(-1).values
        shifted = frames.clone()
        shifted[..., self.pitch] += math.log(hertz) - median[..., None, None]
        return shifted

    @property
    def _step(self) -> int:
        return self.hop_length // self.config.subframes

    def _analyze_window(self, wav: Tensor, start: int, stop: int) -> tuple[Array, ...]:
        """Returns F0, voicing, coded envelope and aperiodicity of the subframes from `start` to `stop`."""
        config, rate, step = self.config, self.sample_rate, self._step
        context = math.ceil(CONTEXT * rate / step)
        first, last = max(start - context, 0), stop + context
        # half a step of padding puts the centre of our subframe t on WORLD's frame t + 1
        begin = first * step - step // 2
        samples = wav[max(begin, 0) : last * step].detach().cpu().double().numpy()
        samples = np.pad(samples, (max(-begin, 0), step))
        f0, _ = getattr(_pyworld(), config.tracker)(
            samples, rate, f0_floor=config.low, f0_ceil=config.high, frame_period=1000 * step / rate
        )
        inside = np.arange(start + 1 - first, stop + 1 - first)
        f0 = f0[inside]
        times = inside * step / rate
        f0 = _pyworld().stonemask(samples, f0, times, rate)
        envelope = _pyworld().cheaptrick(samples, f0, times, rate, fft_size=self.fft_size)
        aperiodicity = _pyworld().d4c(samples, f0, times, rate, fft_size=self.fft_size)
        voiced = (f0 > 0) & (aperiodicity.min(axis=1) < 0.99)  # D4C corrects Harvest's excess of voicing
        cepstra = _pyworld().code_spectral_envelope(envelope, rate, config.cepstra)
        return f0, voiced.astype(np.float64), cepstra, _pyworld().code_aperiodicity(aperiodicity, rate)

    @torch.no_grad()
    def _generate(self, frames: Tensor) -> Tensor:
        rows = frames.detach().cpu().double().numpy()
        wavs = [torch.from_numpy(self._synthesize(row, self._f0(row))) for row in rows]
        return torch.stack(wavs).float().to(frames.device)

    def _subframes(self, frames: Array, columns: slice) -> Array:
        """Returns columns (subframes + 2, n), edges repeated: WORLD's first frame is half a step before ours."""
        return np.pad(frames[:, columns].reshape(len(frames) * self.config.subframes, -1), ((1, 1), (0, 0)), "edge")

    def _f0(self, frames: Array) -> Array:
        """Returns F0 in Hz (subframes + 2,), 0 where unvoiced."""
        # a period longer than fft_size makes WORLD write out of bounds, and it halves F0 next to unvoiced subframes;
        # far above speech there would be a pulse every few samples
        low, high = math.log(2 * self.sample_rate / self.fft_size + 2), math.log(self.sample_rate / 8)
        f0 = np.exp(np.clip(self._subframes(frames, self.pitch), low, high))
        return np.where(self._subframes(frames, self.voicing) >= 0.5, f0, 0.0)[:, 0]

    def _synthesize(self, frames: Array, f0: Array) -> Array:
        """Returns the waveform (frames * hop_length,) of one clip's frames (frames, dim) with this F0."""
        if not np.isfinite(frames).all():
            raise ValueError("the frames have values that are NaN or infinite; extract them again.")
        rate, step = self.sample_rate, self._step
        cepstra, bands = (self._subframes(frames, columns) for columns in (self.envelope, self.aperiodicity))
        with np.errstate(over="ignore"):
            envelope = _pyworld().decode_spectral_envelope(cepstra, rate, self.fft_size)
        np.clip(envelope, 1e-16, MAX_ENVELOPE, out=envelope)
        aperiodicity = _pyworld().decode_aperiodicity(np.clip(bands, -60.0, 0.0), rate, self.fft_size)
        wav = _pyworld().synthesize(f0, envelope, aperiodicity, rate, PERIOD_SCALE * 1000 * step / rate)
        return wav[step - step // 2 :][: len(frames) * self.hop_length]

    def _pulse_count(self, f0: Array, frame: int) -> float:
        """Returns how many pulses, with the fraction of the next, WORLD generates before a frame starts."""
        subframe, step = np.arange(len(f0)), self._step
        time = np.arange(frame * self.hop_length + step - step // 2) / (PERIOD_SCALE * step)
        voiced = np.interp(time, subframe, f0 > 0) > 0.5
        return float(np.where(voiced, np.interp(time, subframe, f0), UNVOICED_RATE).sum() / self.sample_rate)

    def _lead_in(self, f0: Array, frame: int, pulses: float) -> Array:
        """Returns F0 with its start replaced, so that the pulse count at a frame equals `pulses` modulo 1."""
        f0, higher, start = f0.copy(), f0.copy(), slice(0, frame * self.config.subframes // 2 + 1)
        f0[start], higher[start] = DEFAULT_F0, DEFAULT_F0 + 1
        count = self._pulse_count(f0, frame)
        f0[start] += (pulses - count) % 1 / (self._pulse_count(higher, frame) - count)  # the count is linear in F0
        return f0


@cache
def _pyworld() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "pkg_resources is deprecated")
            return import_module("pyworld")
    except ImportError:  # pyworld, or the pkg_resources that it imports
        raise ValueError("WORLD needs pyworld, which is not installed; pip install 'ssl-vc[world]'.") from None
