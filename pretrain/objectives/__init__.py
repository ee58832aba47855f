"""Pretraining objectives, one file each, behind one protocol."""

from pretrain.objectives.hubert import Hubert, HubertSettings
from pretrain.objectives.protocol import Objective, Settings
from pretrain.objectives.wavlm import WavlmSettings

__all__ = ["OBJECTIVES", "Objective", "Settings"]

# name -> its settings, and its module: (settings, dim, clusters of each label set, gradient scales) -> Objective
OBJECTIVES: dict[str, tuple[type[Settings], type[Objective]]] = {
    "hubert": (HubertSettings, Hubert),
    "wavlm": (WavlmSettings, Hubert),
}
