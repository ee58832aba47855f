"""The front ends and quantisers, by the name in a config."""

from pretrain.encoder.config import EncoderConfig
from pretrain.encoder.frontend import ConvFrontend, LogMelFrontend
from pretrain.encoder.quantisers import GumbelQuantiser, KMeansQuantiser
from pretrain.encoder.stack import StackFrontend

Frontend = ConvFrontend | LogMelFrontend | StackFrontend


def make_frontend(config: EncoderConfig) -> Frontend:
    """Return the front end of a config, with random weights."""
    if config.frontend == "conv":
        return ConvFrontend(config.conv_dim, config.conv_norm, config.conv_bias)
    if config.frontend == "log_mel":
        return LogMelFrontend(config.conv_dim, config.mel_bins)
    return StackFrontend(config.mel_bins)


def make_quantiser(config: EncoderConfig) -> GumbelQuantiser | KMeansQuantiser | None:
    """Return the quantiser of a config, with random weights; None if it has none."""
    size = {"codes": config.codes, "groups": config.code_groups}
    if config.quantiser == "gumbel":
        return GumbelQuantiser(config.feature_dim, **size, out=config.feature_dim, depth=2)
    return KMeansQuantiser(config.feature_dim, **size) if config.quantiser == "kmeans" else None
