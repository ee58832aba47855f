"""Entry points of `torch.hub.load(REPOSITORY, "ssl_vc")`, which needs the packages that `ssl-vc` requires."""

from typing import Any as _Any

from ssl_vc import TextToSpeech as _TextToSpeech
from ssl_vc import UnitCodec as _UnitCodec
from ssl_vc import VoiceConverter as _VoiceConverter

dependencies = [
    *("torch", "numpy", "scipy", "soundfile", "soxr", "safetensors", "huggingface_hub", "filelock", "einops"),
    *("omegaconf", "tqdm"),
]


def ssl_vc(model: str = "tiny", **options: _Any) -> _VoiceConverter:
    """Return a voice converter; see `ssl_vc.VoiceConverter.from_pretrained` for models and options."""
    return _VoiceConverter.from_pretrained(model, **options)


def knn_vc(prematched: bool = True, **options: _Any) -> _VoiceConverter:
    """Return kNN-VC as published, its vocoder trained on prematched frames or on frames as they are."""
    return _VoiceConverter.from_pretrained("knn-vc" if prematched else "knn-vc-plain", **options)


def text_to_speech(**options: _Any) -> _TextToSpeech:
    """Return a speech synthesiser; see `ssl_vc.TextToSpeech.from_pretrained` for the options."""
    return _TextToSpeech.from_pretrained(**options)


def unit_codec(**options: _Any) -> _UnitCodec:
    """Return a codec of discrete units; see `ssl_vc.UnitCodec.from_pretrained` for the options."""
    return _UnitCodec.from_pretrained(**options)
