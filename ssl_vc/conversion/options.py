"""The options of a conversion, for type checkers and editors; `ssl_vc.options` parses and checks their values."""

from typing import TypedDict

from torch import Tensor

from ssl_vc.match.protocol import Matcher


class ConversionOptions(TypedDict, total=False):
    """Options of `VoiceConverter.convert`, which says what they mean and has their defaults."""

    matcher: str | Matcher | None
    k: int | None
    blend: float | Tensor
    pitch: str | float
    speed: float
    loudness: float | None
