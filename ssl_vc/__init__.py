"""ssl_vc converts: voice conversion and synthesis on self-supervised speech features.

Public names load on first use, so that `import ssl_vc` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_vc.audio import AudioError, read, write
    from ssl_vc.conversion.converter import VoiceConverter
    from ssl_vc.copysynth import copy_synthesis
    from ssl_vc.features.extractor import Extractor, FrameSpec, read_frames
    from ssl_vc.tts.speak import TextToSpeech
    from ssl_vc.units.codec import UnitCodec
    from ssl_vc.units.file import Units
    from ssl_vc.voice.voice import Voice

__version__ = "0.1.0"

_HOMES = {
    "AudioError": "audio",
    "Extractor": "features.extractor",
    "FrameSpec": "features.extractor",
    "TextToSpeech": "tts.speak",
    "UnitCodec": "units.codec",
    "Units": "units.file",
    "Voice": "voice.voice",
    "VoiceConverter": "conversion.converter",
    "copy_synthesis": "copysynth",
    "read": "audio",
    "read_frames": "features.extractor",
    "write": "audio",
}
__all__ = [
    "AudioError",
    "Extractor",
    "FrameSpec",
    "TextToSpeech",
    "UnitCodec",
    "Units",
    "Voice",
    "VoiceConverter",
    "copy_synthesis",
    "read",
    "read_frames",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ssl_vc' has no attribute {name!r}")
    value = getattr(import_module(f"ssl_vc.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
