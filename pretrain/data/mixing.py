"""Utterance mixing: other speech, or noise, is added to part of a clip, whose labels stay the same.

Chen et al., 2022, "WavLM", arXiv 2110.13900: the encoder learns to follow the primary speaker, and to be robust to
noise. Here the added speech always comes from another, unmixed row of the batch.

    clip    -----------------------------------
    added          + + + + + + +                 at most half of the clip, from a random place to a random place
"""

import logging
from collections.abc import Callable
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from pretrain.data.manifest import READ_ERRORS, Clip, Samples, decode, log_skipped
from pretrain.encoder.framing import SAMPLE_RATE

log = logging.getLogger(__name__)

NoiseSource = Callable[[np.random.Generator, int], Samples]


def mix(
    wavs: list[Samples],
    rng: np.random.Generator,
    *,
    probability: float = 0.2,
    noise_probability: float = 0.0,
    noises: NoiseSource | None = None,
    speech_db: tuple[float, float] = (-5, 5),
    noise_db: tuple[float, float] = (-5, 20),
) -> list[Samples]:
    """Return copies of a batch's clips, some of them mixed.

    Args:
        wavs: the clips (samples,) each.
        rng: random generator.
        probability: of a clip to be mixed.
        noise_probability: of a mixture to be with noise rather than another clip of the batch.
        noises: samples noise of a given length, such as a `NoiseBank`.
        speech_db: range of the energy ratio of a clip to other speech, in dB, by the power of the whole clips.
        noise_db: range of the signal-to-noise ratio, in dB.
    """
    if noise_probability > 0 and noises is None:
        raise ValueError(f"noise_probability is {noise_probability} without noise; pass `noises`, or 0.")
    mixed = []
    for row, wav in enumerate(wavs):
        wav = wav.copy()
        if rng.random() < probability:
            if noises is not None and rng.random() < noise_probability:
                _add(wav, noises(rng, len(wav)), rng.uniform(*noise_db), rng)
            elif len(wavs) > 1:
                partner = (row + rng.integers(1, len(wavs))) % len(wavs)
                _add(wav, wavs[partner], rng.uniform(*speech_db), rng)
        mixed.append(wav)
    return mixed


def _add(wav: Samples, other: Samples, snr_db: float, rng: np.random.Generator) -> None:
    """Add a segment of `other` to `wav` at an energy ratio in dB, in place; a silent `other` adds nothing."""
    power = _power(other)
    if power == 0:
        return
    samples = min(int(rng.integers(len(wav) // 2 + 1)), len(other))
    start, at = rng.integers(len(other) - samples + 1), rng.integers(len(wav) - samples + 1)
    scale = (_power(wav) / (power * 10 ** (snr_db / 10))) ** 0.5
    wav[at : at + samples] += np.float32(scale) * other[start : start + samples]


def _power(wav: Samples) -> float:
    return float(np.mean(np.square(wav, dtype=np.float64))) if len(wav) else 0.0


class NoiseBank:
    """Noise recordings in memory, as 16-bit samples; an hour takes 115 MB.

    Args:
        clips: the recordings; unreadable ones are skipped and logged.
        hours: limit on their total duration.
    """

    def __init__(self, clips: list[Clip], hours: float = 1.0) -> None:
        self._recordings: list[npt.NDArray[np.int16]] = []
        skipped, room = [], round(hours * 3600 * SAMPLE_RATE)
        for clip in clips:
            if room <= 0:
                log.info("keeping %g h of noise only, up to %s", hours, clip.key)
                break
            try:
                wav = decode(clip.path)[:room]
            except READ_ERRORS as error:
                skipped.append(f"{clip.key} ({str(error).splitlines()[0]})")
                continue
            self._recordings.append((wav.clip(-1, 1) * 32767).round().astype(np.int16))
            room -= len(wav)
        log_skipped(skipped)
        if not self._recordings:
            raise ValueError(
                f"none of {len(clips)} noise clips can be read; fix noise_clips, or set noise_probability=0."
            )
        self._ends = np.array(list(accumulate(len(wav) for wav in self._recordings)))

    @property
    def seconds(self) -> float:
        """Total duration."""
        return float(self._ends[-1]) / SAMPLE_RATE

    def __call__(self, rng: np.random.Generator, samples: int) -> Samples:
        """Return a uniformly drawn segment (samples,); a shorter recording is repeated."""
        at = rng.integers(self._ends[-1])
        wav = self._recordings[int(np.searchsorted(self._ends, at, side="right"))]
        spare = len(wav) - samples
        start = rng.integers(spare + 1 if spare >= 0 else len(wav))
        return wav.take(np.arange(start, start + samples), mode="wrap").astype(np.float32) / np.float32(32767)
