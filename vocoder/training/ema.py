"""The exponential moving average of a network's weights."""

from torch import Tensor, nn


def average(averaged: dict[str, Tensor], network: nn.Module, keep: float, step: int) -> None:
    """Move an average of a network's weights one step towards what they are now.

    Args:
        averaged: the average, changed in place.
        network: whose weights.
        keep: how much of the average stays.
        step: the number of the step; in the first ones less stays, so that the random start is forgotten.
    """
    keep = min(keep, (1 + step) / (10 + step)) if keep else 0.0
    for name, value in network.state_dict().items():
        averaged[name].lerp_(value, 1 - keep)
