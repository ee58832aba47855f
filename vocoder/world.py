"""WORLD: sound as pitch, envelope and aperiodicity, and back, with no training. Needs the extra `world`.

Morise, Yokomori and Ozawa, "WORLD: a vocoder-based high-quality speech synthesis system for real-time applications"
(2016); pitch by Harvest (Morise, 2017) or DIO, envelope by CheapTrick, aperiodicity by D4C, through pyworld.

What is different here: a frame holds one or more of WORLD's, centred in its samples, where WORLD's first is on sample
0; its F0 goes on, interpolated, through what is unvoiced, with the voicing beside it, so that frames can be averaged.

    samples   0         hop       2 hop
              |---------|---------|---
    ours      |    0    |    1    |
    WORLD's   | *     * | *     * |               two subframes

Long clips are made in windows. WORLD counts a voice's pulses from where it begins, so each window is led in by a pitch
that brings its count, where the two sounds are cross-faded, to that of the window before:

    window 1   |======= core 1 =======|-context-|
    window 2              |lead-in|---|======= core 2 =======|-context-|
"""

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vocoder.pitch import NO_PITCH, log_through_unvoiced
from vocoder.protocol import by_row

Array = npt.NDArray[np.float64]

CORE, CONTEXT = 10.0, 0.5  # seconds worked on at a time, and on either side: to analyse a minute takes a gigabyte
FADE = 0.005  # seconds from one window's sound to the next one's: its noise, for the pulses agree
UNVOICED = 500.0  # Hz, how often WORLD puts a piece of noise where nothing is voiced
PERIOD = 1 + 1e-9  # of a subframe: else rounding decides whether a sample half-way to an unvoiced one is voiced
LOUDEST = 1e12  # of an envelope's power: far above any sound, and its sound is still finite


@dataclass(frozen=True)
class WorldConfig:
    """How WORLD's frames are made.

    Attributes:
        sample_rate: of the sound, in Hz.
        hop_length: samples from one frame to the next.
        subframes: WORLD's own frames in each of ours.
        cepstra: numbers that an envelope is coded in.
        tracker: what finds F0: `harvest`, or `dio`, which is faster and more often wrong.
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
            raise ValueError(f"cepstra is {self.cepstra}; possible are 2 to 100.")
        if self.tracker not in ("harvest", "dio"):
            raise ValueError(f"tracker is {self.tracker!r}; possible are 'harvest' and 'dio'.")
        if not 40 <= self.low <= 150 < self.high <= 2000:
            raise ValueError(f"low {self.low}, high {self.high} do not do; give 40 <= low <= 150 < high <= 2000.")


class World(nn.Module):
    """Analysis and synthesis: a wav (samples,) to frames (frames, dim), and frames (batch, frames, dim) to wav.

    A frame's columns are `pitch` (the natural logarithm of F0 in Hz), `voicing` (0 to 1), `envelope` (cepstra of the
    log-envelope) and `aperiodicity` (in dB), each for all subframes in order. Analysis works in windows, and so do
    `stream` and `synthesize`; calling it holds whole clips in memory, about 2 MB a second.

    Args:
        config: how frames are made.
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
        """What the frames are."""
        return {"kind": "world", **asdict(self.config)}

    @property
    def pitch(self) -> slice:
        """The columns of log-F0."""
        return slice(0, self.config.subframes)

    @property
    def voicing(self) -> slice:
        """The columns of voicing."""
        return slice(self.pitch.stop, 2 * self.config.subframes)

    @property
    def envelope(self) -> slice:
        """The columns of the coded envelope, one subframe after the other."""
        return slice(self.voicing.stop, self.voicing.stop + self.config.subframes * self.config.cepstra)

    @property
    def loudness(self) -> slice:
        """The columns of the envelope's means over frequency (its first cepstra), of all subframes."""
        return slice(self.envelope.start, self.envelope.stop, self.config.cepstra)

    @property
    def aperiodicity(self) -> slice:
        """The columns of the coded aperiodicity, one subframe after the other."""
        return slice(self.envelope.stop, self.dim)

    def analyze(self, wav: Tensor) -> Tensor:
        """Give the frames (samples // hop_length, dim) of a wav (samples,), on its device."""
        if wav.ndim != 1:
            raise ValueError(f"the sound has the shape {tuple(wav.shape)}; give (samples,).")
        if not wav.isfinite().all():
            raise ValueError("the sound has samples that are NaN or infinite; repair it first.")
        if not (frames := len(wav) // self.hop_length):
            return wav.new_zeros(0, self.dim, dtype=torch.float32)
        count = frames * self.config.subframes
        core = math.ceil(CORE * self.sample_rate / self._step)
        windows = [self._window(wav, start, min(start + core, count)) for start in range(0, count, core)]
        f0, *columns = (np.concatenate(part) for part in zip(*windows, strict=True))
        columns.insert(0, log_through_unvoiced(f0, columns[0] > 0))
        return torch.from_numpy(np.hstack([part.reshape(frames, -1) for part in columns])).float().to(wav.device)

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Give the wav (batch, frames * hop_length) of frames (batch, frames, dim); zeros behind a row's length."""
        return by_row(self, self._generate, frames, lengths)

    @torch.no_grad()
    def stream(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Give a clip's sound piece by piece, in bounded memory; where the clip was cut makes no difference.

        Args:
            pieces: the clip's frames in order, (some frames, dim) each; a tensor of all of them is one piece.

        Yields:
            wav (samples,), together exactly frames * hop_length; of CORE seconds or less, what `forward` gives.
        """
        hop, fade = self.hop_length, round(FADE * self.sample_rate)
        rise, tail, turns = (np.arange(fade) + 0.5) / fade, np.zeros(fade), 0.0
        core, context = (math.ceil(seconds * self.sample_rate / hop) for seconds in (CORE, CONTEXT))
        for window, start, stop in _windows(pieces, self.dim, core, context):
            frames = window.double().numpy()
            f0 = self._lead_in(self._f0(frames), start, turns) if start else self._f0(frames)
            wav = self._synthesize(frames, f0)
            sound = wav[start * hop : stop * hop]
            if start:
                sound[:fade] = rise * sound[:fade] + (1 - rise) * tail
            yield torch.from_numpy(sound).float()
            tail, turns = wav[stop * hop :][:fade].copy(), self._turns(f0, stop)

    def synthesize(self, frames: Tensor) -> Tensor:
        """Give the wav (frames * hop_length,) of one clip's frames (frames, dim) of any length."""
        if not len(frames):
            raise ValueError("the clip has no frames; give at least one.")
        return torch.cat(list(self.stream(frames)))

    def shift_pitch(self, frames: Tensor, semitones: float) -> Tensor:
        """Give frames (..., frames, dim) whose F0 is higher by so many semitones; the envelope stays."""
        shifted = frames.clone()
        shifted[..., self.pitch] += semitones * math.log(2) / 12
        return shifted

    def set_median_pitch(self, frames: Tensor, hertz: float) -> Tensor:
        """Give frames (..., frames, dim) whose F0 is shifted so that its median where voiced is `hertz`."""
        if not 0 < hertz < math.inf:
            raise ValueError(f"a median F0 of {hertz} Hz was asked for; give a positive number of Hz.")
        pitch = frames[..., self.pitch].flatten(-2)
        voiced = frames[..., self.voicing].flatten(-2) >= 0.5
        voiced = voiced | ~voiced.any(-1, keepdim=True)
        median = pitch.masked_fill(~voiced, math.nan).nanmedian(-1).values
        moved = frames.clone()
        moved[..., self.pitch] += math.log(hertz) - median[..., None, None]
        return moved

    @property
    def _step(self) -> int:
        return self.hop_length // self.config.subframes

    def _window(self, wav: Tensor, start: int, stop: int) -> tuple[Array, ...]:
        """Give F0, voicing, coded envelope and aperiodicity of the subframes from `start` to `stop`."""
        config, rate, step = self.config, self.sample_rate, self._step
        context = math.ceil(CONTEXT * rate / step)
        first, last = max(start - context, 0), stop + context
        # half a step in front puts the middle of our subframe t on WORLD's frame t + 1
        begin = first * step - step // 2
        piece = wav[max(begin, 0) : last * step].detach().cpu().double().numpy()
        piece = np.pad(piece, (max(-begin, 0), step))
        f0, _ = getattr(_pyworld(), config.tracker)(
            piece, rate, f0_floor=config.low, f0_ceil=config.high, frame_period=1000 * step / rate
        )
        inside = np.arange(start + 1 - first, stop + 1 - first)
        f0 = f0[inside]
        times = inside * step / rate
        f0 = _pyworld().stonemask(piece, f0, times, rate)
        envelope = _pyworld().cheaptrick(piece, f0, times, rate, fft_size=self.fft_size)
        aperiodicity = _pyworld().d4c(piece, f0, times, rate, fft_size=self.fft_size)
        voiced = (f0 > 0) & (aperiodicity.min(axis=1) < 0.99)  # D4C takes back what Harvest voices too readily
        cepstra = _pyworld().code_spectral_envelope(envelope, rate, config.cepstra)
        return f0, voiced.astype(np.float64), cepstra, _pyworld().code_aperiodicity(aperiodicity, rate)

    @torch.no_grad()
    def _generate(self, frames: Tensor) -> Tensor:
        rows = frames.detach().cpu().double().numpy()
        wavs = [torch.from_numpy(self._synthesize(row, self._f0(row))) for row in rows]
        return torch.stack(wavs).float().to(frames.device)

    def _subframes(self, frames: Array, columns: slice) -> Array:
        """Give columns (subframes, numbers), the first and the last twice: WORLD begins half a step before ours."""
        return np.pad(frames[:, columns].reshape(len(frames) * self.config.subframes, -1), ((1, 1), (0, 0)), "edge")

    def _f0(self, frames: Array) -> Array:
        """Give F0 in Hz (subframes,), 0 where unvoiced."""
        # a period longer than fft_size makes WORLD write where it may not, and next to what is unvoiced it halves F0;
        # far above speech it has a pulse in every few samples
        low, high = math.log(2 * self.sample_rate / self.fft_size + 2), math.log(self.sample_rate / 8)
        f0 = np.exp(np.clip(self._subframes(frames, self.pitch), low, high))
        return np.where(self._subframes(frames, self.voicing) >= 0.5, f0, 0.0)[:, 0]

    def _synthesize(self, frames: Array, f0: Array) -> Array:
        """Give the wav (frames * hop_length,) of one clip's frames (frames, dim) with this F0."""
        if not np.isfinite(frames).all():
            raise ValueError("the frames have numbers that are NaN or infinite; make them again.")
        rate, step = self.sample_rate, self._step
        cepstra, bands = (self._subframes(frames, columns) for columns in (self.envelope, self.aperiodicity))
        with np.errstate(over="ignore"):
            envelope = _pyworld().decode_spectral_envelope(cepstra, rate, self.fft_size)
        np.clip(envelope, 1e-16, LOUDEST, out=envelope)
        aperiodicity = _pyworld().decode_aperiodicity(np.clip(bands, -60.0, 0.0), rate, self.fft_size)
        wav = _pyworld().synthesize(f0, envelope, aperiodicity, rate, PERIOD * 1000 * step / rate)
        return wav[step - step // 2 :][: len(frames) * self.hop_length]

    def _turns(self, f0: Array, frame: int) -> float:
        """Give how many pulses, and what part of the next, WORLD has made of this F0 when a frame begins."""
        subframe, step = np.arange(len(f0)), self._step
        time = np.arange(frame * self.hop_length + step - step // 2) / (PERIOD * step)
        voiced = np.interp(time, subframe, f0 > 0) > 0.5
        return float(np.where(voiced, np.interp(time, subframe, f0), UNVOICED).sum() / self.sample_rate)

    def _lead_in(self, f0: Array, frame: int, turns: float) -> Array:
        """Give F0 begun in another way, so that when a frame begins it has made `turns`, but for whole ones."""
        f0, higher, begin = f0.copy(), f0.copy(), slice(0, frame * self.config.subframes // 2 + 1)
        f0[begin], higher[begin] = NO_PITCH, NO_PITCH + 1
        made = self._turns(f0, frame)
        f0[begin] += (turns - made) % 1 / (self._turns(higher, frame) - made)  # what is voiced turns in step with F0
        return f0


def _windows(pieces: Iterable[Tensor], dim: int, core: int, context: int) -> Iterator[tuple[Tensor, int, int]]:
    """Give a clip's frames window by window, and where in each its core starts and stops."""
    held, start = torch.empty(0, dim), 0
    for piece in [pieces] if isinstance(pieces, Tensor) else pieces:
        if piece.ndim != 2 or piece.shape[1] != dim:
            raise ValueError(f"the frames have shape {tuple(piece.shape)}; a clip's are (frames, {dim}).")
        for part in piece.split(core):
            held = torch.cat([held, part.cpu()])
            if len(held) >= start + core + context:
                yield held[: start + core + context], start, start + core
                drop = max(start + core - context, 0)
                held, start = held[drop:], start + core - drop
    if len(held) > start:
        yield held, start, len(held)


@cache
def _pyworld() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "pkg_resources is deprecated")
            return import_module("pyworld")
    except ImportError:  # pyworld, or the pkg_resources that it imports
        raise ValueError("WORLD needs pyworld, which is not installed; pip install 'ssl-vc[world]'.") from None
