"""pretrain hears: speech in, frames out, and how the encoder that makes them learns."""

from pretrain.encoder import EncoderConfig, SpeechEncoder, WeightedSum

__all__ = ["EncoderConfig", "SpeechEncoder", "WeightedSum"]
