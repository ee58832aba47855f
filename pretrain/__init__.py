"""pretrain turns speech into features: a self-supervised speech encoder, and its pretraining."""

from pretrain.encoder import EncoderConfig, SpeechEncoder, WeightedSum

__all__ = ["EncoderConfig", "SpeechEncoder", "WeightedSum"]
