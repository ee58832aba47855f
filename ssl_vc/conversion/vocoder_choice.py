"""Which vocoder a converter gets (asked for, the model's own, or one without training), and which voices fit it."""

import logging
from os import PathLike

from ssl_vc.features.analysis import Analysis
from ssl_vc.features.extractor import Extractor
from ssl_vc.hub.registry import load_vocoder
from ssl_vc.voice.voice import Voice
from vocoder.griffin_lim import GriffinLim
from vocoder.kinds import load
from vocoder.protocol import Vocoder
from vocoder.world import World

logger = logging.getLogger(__name__)


def select_vocoder(name: str, vocoder: str | PathLike[str] | None, offline: bool) -> Vocoder:
    """Load `world`, `griffin-lim` or weights; the vocoder of the model `name`, or a training-free one, if None."""
    if vocoder is None:
        return load_vocoder(name, offline=offline) or _training_free_vocoder()
    training_free = {"world": World, "griffin-lim": GriffinLim}
    return training_free[str(vocoder)]() if str(vocoder) in training_free else load(str(vocoder))


def _training_free_vocoder() -> Vocoder:
    """Return WORLD, or Griffin-Lim where WORLD is not installed."""
    try:
        return World()
    except ValueError as error:
        logger.warning("falling back to griffin-lim, which loses the source's prosody: %s", error)
        return GriffinLim()


def require_voice(voice: Voice, extractor: Extractor, analysis: Analysis, vocoder: Vocoder) -> None:
    """Refuse a voice of another encoder, analysis or vocoder."""
    extractor.spec.require(voice.spec, f"the voice {voice.name!r}")
    has, wanted = voice.feature_spec, analysis.feature_spec
    if dict(has) != dict(wanted):
        raise ValueError(
            f"the voice {voice.name!r} was built for a vocoder that reads {has.get('kind')} frames, and this one "
            f"reads other {wanted.get('kind')} frames; build the voice again with this vocoder."
        )
    width = voice.frames.shape[1] if voice.synthesis is None else voice.synthesis.shape[1]
    if width != vocoder.dim:
        raise ValueError(
            f"the voice {voice.name!r} has frames of {width} dimensions, and the vocoder reads {vocoder.dim}; build "
            "the voice again."
        )
