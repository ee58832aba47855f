"""WORLD: sound as pitch, envelope and aperiodicity, and back, with no training. Needs the extra `world`.

Morise, Yokomori and Ozawa, "WORLD: a vocoder-based high-quality speech synthesis system for real-time applications"
(2016); pitch by Harvest (Morise, 2017) or DIO, envelope by CheapTrick, aperiodicity by D4C, through pyworld.

What is different here: a frame holds one or more of WORLD's, centred in its samples, where WORLD's first is on sample
0; its F0 goes on, interpolated, through what is unvoiced, with the voicing beside it, so that frames can be averaged.

    samples   0         hop       2 hop
              |---------|---------|---
    ours      |    0    |    1    |
    WORLD's   | *     * | *     * |               two subframes
"""

import math
import warnings
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vocoder.protocol import by_row

Array = npt.NDArray[np.float64]

NO_PITCH = 150.0  # Hz, the F0 of a clip that is nowhere voiced
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
            raise ValueError(f"F0 from {self.low} to {self.high} Hz was asked for; give 40 to 150, and 151 to 2000.")


class World(nn.Module):
    """Analysis and synthesis: a wav (samples,) to frames (frames, dim), and frames (batch, frames, dim) to wav.

    A frame's columns are `pitch` (the natural logarithm of F0 in Hz), `voicing` (0 to 1), `envelope` (cepstra of the
    log-envelope) and `aperiodicity` (in dB), each for all subframes in order. A clip is held in memory whole.

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
    def aperiodicity(self) -> slice:
        """The columns of the coded aperiodicity, one subframe after the other."""
        return slice(self.envelope.stop, self.dim)

    def analyze(self, wav: Tensor) -> Tensor:
        """Give the frames (samples // hop_length, dim) of a wav (samples,), on its device."""
        if wav.ndim != 1:
            raise ValueError(f"the sound has the shape {tuple(wav.shape)}; give (samples,).")
        if not wav.isfinite().all():
            raise ValueError("the sound has samples that are NaN or infinite; repair it first.")
        config, rate = self.config, self.sample_rate
        frames = len(wav) // self.hop_length
        if not frames:
            return wav.new_zeros(0, self.dim, dtype=torch.float32)
        step = self.hop_length // config.subframes
        count = frames * config.subframes
        # half a step in front puts the middle of our subframe t on WORLD's frame t + 1; the step behind is for rounding
        sound = np.pad(wav.detach().cpu().double().numpy(), (step // 2, step))
        times = np.arange(1, count + 1) * step / rate
        f0 = self._track(sound, 1000 * step / rate)[1 : count + 1]
        f0 = _pyworld().stonemask(sound, np.ascontiguousarray(f0), times, rate)
        envelope = _pyworld().cheaptrick(sound, f0, times, rate, fft_size=self.fft_size)
        aperiodicity = _pyworld().d4c(sound, f0, times, rate, fft_size=self.fft_size)
        voiced = (f0 > 0) & (aperiodicity.min(axis=1) < 0.99)  # D4C takes back what Harvest voices too readily
        columns = (
            _through_unvoiced(f0, voiced, min(max(NO_PITCH, config.low), config.high)),
            voiced.astype(np.float64),
            _pyworld().code_spectral_envelope(envelope, rate, config.cepstra),
            _pyworld().code_aperiodicity(aperiodicity, rate),
        )
        return torch.from_numpy(np.hstack([part.reshape(frames, -1) for part in columns])).float().to(wav.device)

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Give the wav (batch, frames * hop_length) of frames (batch, frames, dim); zeros behind a row's length."""
        return by_row(self, self._generate, frames, lengths)

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

    def _track(self, sound: Array, period: float) -> Array:
        track = getattr(_pyworld(), self.config.tracker)
        f0, _ = track(sound, self.sample_rate, f0_floor=self.config.low, f0_ceil=self.config.high, frame_period=period)
        return f0

    @torch.no_grad()
    def _generate(self, frames: Tensor) -> Tensor:
        if not frames.isfinite().all():
            raise ValueError("the frames have numbers that are NaN or infinite; make them again.")
        wavs = [torch.from_numpy(self._synthesize(row)) for row in frames.detach().cpu().double().numpy()]
        return torch.stack(wavs).float().to(frames.device)

    def _synthesize(self, frames: Array) -> Array:
        """Give the wav (frames * hop_length,) of one clip's frames (frames, dim)."""
        rate, step = self.sample_rate, self.hop_length // self.config.subframes
        count = len(frames) * self.config.subframes
        pitch, voicing, cepstra, bands = (
            np.ascontiguousarray(frames[:, columns]).reshape(count, -1)
            for columns in (self.pitch, self.voicing, self.envelope, self.aperiodicity)
        )
        # below rate / fft_size + 1 WORLD takes F0 for unvoiced; far above speech it has a pulse in every few samples
        f0 = np.exp(np.clip(pitch, math.log(rate / self.fft_size + 2), math.log(rate / 8)))
        f0 = np.where(voicing >= 0.5, f0, 0.0)[:, 0]
        with np.errstate(over="ignore"):
            envelope = _pyworld().decode_spectral_envelope(cepstra, rate, self.fft_size)
        envelope = np.clip(envelope, 1e-16, LOUDEST)
        aperiodicity = _pyworld().decode_aperiodicity(np.clip(bands, -60.0, 0.0), rate, self.fft_size)
        # WORLD's first frame is on sample 0, half a step before ours: another in front, and half a step cut off
        f0, envelope, aperiodicity = (
            np.concatenate([part[:1], part, part[-1:]]) for part in (f0, envelope, aperiodicity)
        )
        wav = _pyworld().synthesize(f0, envelope, aperiodicity, rate, 1000 * step / rate)
        return wav[step - step // 2 :][: count * step]


def _through_unvoiced(f0: Array, voiced: npt.NDArray[np.bool_], otherwise: float) -> Array:
    """Give log-F0 (frames,), interpolated where it is unvoiced."""
    known = np.flatnonzero(voiced)
    if not len(known):
        return np.full(len(f0), math.log(otherwise))
    return np.interp(np.arange(len(f0)), known, np.log(f0[known]))


@cache
def _pyworld() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "pkg_resources is deprecated")
            return import_module("pyworld")
    except ImportError:  # pyworld, or the pkg_resources that it imports
        raise ValueError("WORLD needs pyworld, which is not installed; pip install 'ssl-vc[world]'.") from None
