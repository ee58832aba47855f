"""ConvNeXt stacks, as in Vocos: the trunk of encoder, duration predictor and decoder."""

from torch import nn

from vocoder.vocos import ConvNeXtBlock, VocosConfig


def convnext_blocks(width: int, depth: int) -> nn.ModuleList:
    """Returns `depth` blocks of `width` channels."""
    config = VocosConfig(width=width, ffn_dim=3 * width, depth=depth)
    return nn.ModuleList(ConvNeXtBlock(config) for _ in range(depth))
