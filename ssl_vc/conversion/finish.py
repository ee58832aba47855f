"""The last steps of a conversion: the source's pauses, the loudness, and what the user should know of both."""

from torch import Tensor

from ssl_vc.conversion.gate import apply_gain, find_pauses
from ssl_vc.features.waveform import Waveform
from ssl_vc.limiter import master
from ssl_vc.voice import quality


def finish(wav: Tensor, sample_rate: int, source: Waveform, loudness: float | None, *, gated: bool) -> list[str]:
    """Gate a converted waveform (samples,) and bring it to a loudness, in place; return sentences for the user.

    Args:
        wav: to change.
        sample_rate: of it.
        source: what it was converted from, at 16 kHz.
        loudness: in LUFS; None leaves the waveform as it is, pauses included.
        gated: whether pauses of the source become pauses.
    """
    pauses = find_pauses(source)
    notes = quality.recording_flaws("the source", quality.clipped_share([source]), pauses.noise)
    if loudness is None:
        return notes
    if gated:
        apply_gain(wav, pauses.gain)
    note = master(wav, loudness, sample_rate)
    return [*notes, *([note] if note else [])]
