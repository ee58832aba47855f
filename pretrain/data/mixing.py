"""Utterance mixing: other speech, or noise, over a part of a clip whose labels stay what they were.

Chen et al., 2022, "WavLM", arXiv 2110.13900: the encoder learns whose speech it is to describe, and to hear through
noise. Here what is mixed in always comes from the batch as it was, never from a row that is itself already mixed, and
never from the row itself.

    clip    -----------------------------------
    mixed          + + + + + + +                 at most half of the clip, from anywhere in the other, to anywhere
"""

import logging
from collections.abc import Callable
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from pretrain.data.manifest import BROKEN, SAMPLE_RATE, Clip, Samples, decode, name_left_out

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
    """Mix other sound into some clips of a batch; give new arrays.

    Args:
        wavs: the clips (samples,) each.
        rng: what to draw from.
        probability: of a clip to be mixed with something.
        noise_probability: of this to be noise instead of another clip of the batch.
        noises: gives as many samples of noise as asked for, `Noises` for one.
        speech_db: how much louder a clip is than other speech, at least and at most; by the power of the whole clips.
        noise_db: how much louder a clip is than noise.
    """
    if noise_probability > 0 and noises is None:
        raise ValueError(f"noise_probability is {noise_probability}, but there are no noises; give some, or 0.")
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


def _add(wav: Samples, other: Samples, louder: float, rng: np.random.Generator) -> None:
    """Add a piece of `other`, in place, so that `wav` is `louder` decibels louder; of a silent one nothing."""
    power = _power(other)
    if power == 0:
        return
    samples = min(int(rng.integers(len(wav) // 2 + 1)), len(other))
    start, at = rng.integers(len(other) - samples + 1), rng.integers(len(wav) - samples + 1)
    scale = (_power(wav) / (power * 10 ** (louder / 10))) ** 0.5
    wav[at : at + samples] += np.float32(scale) * other[start : start + samples]


def _power(wav: Samples) -> float:
    return float(np.mean(np.square(wav, dtype=np.float64))) if len(wav) else 0.0


class Noises:
    """Recordings of noise, kept in memory as 16-bit samples; an hour takes 115 MB.

    Args:
        clips: where they are; those that cannot be read are left out, and named in the log.
        hours: how much to keep at most, from the first clip on.
    """

    def __init__(self, clips: list[Clip], hours: float = 1.0) -> None:
        self._sounds: list[npt.NDArray[np.int16]] = []
        left_out, room = [], round(hours * 3600 * SAMPLE_RATE)
        for clip in clips:
            if room <= 0:
                log.info("of the noises, only %g h are kept, which end before %s", hours, clip.key)
                break
            try:
                sound = decode(clip.path)[:room]
            except BROKEN as error:
                left_out.append(f"{clip.key} ({str(error).splitlines()[0]})")
                continue
            self._sounds.append((sound.clip(-1, 1) * 32767).round().astype(np.int16))
            room -= len(sound)
        name_left_out(left_out)
        if not self._sounds:
            raise ValueError(f"none of {len(clips)} noises can be used; list clips that can be read, or mix no noise.")
        self._ends = np.array(list(accumulate(len(sound) for sound in self._sounds)))

    @property
    def seconds(self) -> float:
        """How long they last, all together."""
        return float(self._ends[-1]) / SAMPLE_RATE

    def __call__(self, rng: np.random.Generator, samples: int) -> Samples:
        """Give a piece of one of them (samples,) from anywhere, every second as likely; a short one begins anew."""
        at = rng.integers(self._ends[-1])
        sound = self._sounds[int(np.searchsorted(self._ends, at, side="right"))]
        spare = len(sound) - samples
        start = rng.integers(spare + 1 if spare >= 0 else len(sound))
        return sound.take(np.arange(start, start + samples), mode="wrap").astype(np.float32) / np.float32(32767)
