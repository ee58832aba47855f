"""The speech encoder: waveform -> frames of 20 ms."""

from pretrain.encoder.config import EncoderConfig
from pretrain.encoder.model import SpeechEncoder
from pretrain.encoder.weighted_sum import WeightedSum

__all__ = ["EncoderConfig", "SpeechEncoder", "WeightedSum"]
