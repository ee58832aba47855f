"""Centring: give an encoder's matching layer zero mean over speech.

The frames of a small encoder share a large component, so all their cosines are near 1 and differences hardly count. The
mean is subtracted from an existing bias, so the encoder is otherwise unchanged.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pretrain.encoder import SpeechEncoder
from pretrain.encoder.config import ONE_WAY
from pretrain.labels.features import LayerFeatures


@torch.no_grad()
def centre_layer(encoder: SpeechEncoder, layer: int, wavs: Iterable[Tensor]) -> SpeechEncoder:
    """Return the encoder up to `layer`, at least 1, with zero mean there over some speech.

    Args:
        encoder: stays unchanged.
        layer: the layer to centre.
        wavs: the speech (samples,), at 16 kHz.
    """
    if layer < 1:
        raise ValueError(f"layer {layer} has no block with a bias to shift; centre layer 1 or a later one.")
    if encoder.config.context in ONE_WAY:
        raise ValueError(f"a context of {encoder.config.context} has no bias to shift; set centred to false.")
    features = LayerFeatures(encoder, layer)
    total, count = torch.zeros(encoder.config.dim, dtype=torch.float64), 0
    for wav in wavs:
        frames = features(wav)
        total += frames.double().sum(0)
        count += len(frames)
    centred = SpeechEncoder(features.encoder.config)
    centred.load_state_dict(features.encoder.state_dict())
    bias = centred.transformer.blocks[layer - 1].output_bias
    assert isinstance(bias, nn.Parameter)
    bias.sub_(total / count)
    return centred.eval()
