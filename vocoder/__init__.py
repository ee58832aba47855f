"""vocoder turns features into speech: frames in, waveforms out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vocoder.bigvgan import BigVGAN
    from vocoder.griffin_lim import GriffinLim
    from vocoder.hifigan import HiFiGAN
    from vocoder.mel import Mel, Mfcc
    from vocoder.unit_hifigan import UnitHiFiGAN
    from vocoder.vocos import Vocos
    from vocoder.world import World

_MODULES = {
    "BigVGAN": "bigvgan",
    "GriffinLim": "griffin_lim",
    "HiFiGAN": "hifigan",
    "Mel": "mel",
    "Mfcc": "mel",
    "UnitHiFiGAN": "unit_hifigan",
    "Vocos": "vocos",
    "World": "world",
}
__all__ = ["BigVGAN", "GriffinLim", "HiFiGAN", "Mel", "Mfcc", "UnitHiFiGAN", "Vocos", "World"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'vocoder' has no attribute {name!r}")
    value = getattr(import_module(f"vocoder.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__]
