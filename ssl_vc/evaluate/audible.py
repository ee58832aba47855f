"""The least audio a judge needs."""

from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE, SILENCE

MIN_WORD = SAMPLE_RATE // 10  # samples
MIN_SPEAKER = SAMPLE_RATE // 2


def is_audible(wav: Tensor) -> bool:
    """Returns whether a wav (samples,) at 16 kHz may contain a word."""
    return len(wav) >= MIN_WORD and float(wav.abs().max()) >= SILENCE


def refuse_silence(wav: Tensor) -> None:
    """Raises ValueError if a wav (samples,) at 16 kHz is too short or too quiet to verify a speaker."""
    if len(wav) < MIN_SPEAKER or float(wav.abs().max()) < SILENCE:
        what = "is silent" if len(wav) >= MIN_SPEAKER else f"lasts {len(wav) / SAMPLE_RATE:.2f} s"
        raise ValueError(
            f"the audio {what}; speaker verification needs {MIN_SPEAKER / SAMPLE_RATE} s of speech or more."
        )
