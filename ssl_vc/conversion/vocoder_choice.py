"""Which vocoder a converter gets: the one asked for, the model's own, or one that needs no training."""

import logging
from os import PathLike

from ssl_vc.hub.registry import load_vocoder
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
