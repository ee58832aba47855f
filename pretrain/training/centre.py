"""Centring: an encoder whose matching layer has the mean 0 over speech.

The frames of a small encoder share a large part, whatever is said. Cosines are then near 1 for all of them, and what
differs hardly counts. The mean is taken off by a bias that is there anyway, so the encoder stays what it was otherwise.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from pretrain.encoder import SpeechEncoder
from pretrain.labels.features import LayerFeatures


@torch.no_grad()
def centred(encoder: SpeechEncoder, layer: int, wavs: Iterable[Tensor]) -> SpeechEncoder:
    """Give an encoder of the blocks up to `layer`, at least 1, whose frames there have the mean 0 over some speech.

    Args:
        encoder: is left as it is.
        layer: which.
        wavs: the speech (samples,), at 16 kHz.
    """
    if layer < 1:
        raise ValueError(f"layer {layer} has no block whose output could be moved; centre layer 1 or a later one.")
    features = LayerFeatures(encoder, layer)
    total, count = torch.zeros(encoder.config.dim, dtype=torch.float64), 0
    for wav in wavs:
        frames = features(wav)
        total += frames.double().sum(0)
        count += len(frames)
    made = SpeechEncoder(features.encoder.config)
    made.load_state_dict(features.encoder.state_dict())
    last = "narrow" if made.config.pre_norm else "ffn_norm"
    made.get_parameter(f"transformer.blocks.{layer - 1}.{last}.bias").sub_(total / count)
    return made.eval()
