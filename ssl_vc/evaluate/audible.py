"""How much sound a judge needs before it says anything."""

from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE, SILENCE

WORD = SAMPLE_RATE // 10  # samples
SPEAKER = SAMPLE_RATE // 2


def is_audible(wav: Tensor) -> bool:
    """Returns whether anything may be said in a wav (samples,) at 16 kHz."""
    return len(wav) >= WORD and float(wav.abs().max()) >= SILENCE


def refuse_silence(wav: Tensor) -> None:
    """Raises ValueError if a wav (samples,) at 16 kHz is too short, or too quiet, to tell a speaker by."""
    if len(wav) < SPEAKER or float(wav.abs().max()) < SILENCE:
        what = "is silent" if len(wav) >= SPEAKER else f"lasts {len(wav) / SAMPLE_RATE:.2f} s"
        raise ValueError(f"the sound {what}; a speaker is told by {SPEAKER / SAMPLE_RATE} s of speech or more.")
