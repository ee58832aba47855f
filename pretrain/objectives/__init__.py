"""Pretraining objectives, one file each, behind one protocol."""

from pretrain.objectives.best_rq import BestRq, BestRqSettings
from pretrain.objectives.data2vec import Data2Vec, Data2VecSettings
from pretrain.objectives.frame_contrast import FrameContrast, FrameContrastSettings
from pretrain.objectives.hubert import Hubert, HubertSettings
from pretrain.objectives.protocol import Objective, Settings
from pretrain.objectives.wav2vec2 import Wav2Vec2, Wav2Vec2Settings
from pretrain.objectives.wavlm import WavlmSettings

__all__ = ["OBJECTIVES", "Objective", "Settings"]

# name -> its settings, and its module
OBJECTIVES: dict[str, tuple[type[Settings], type[Objective]]] = {
    "hubert": (HubertSettings, Hubert),
    "wavlm": (WavlmSettings, Hubert),
    "wav2vec2": (Wav2Vec2Settings, Wav2Vec2),
    "best_rq": (BestRqSettings, BestRq),
    "data2vec": (Data2VecSettings, Data2Vec),
    "frame_contrast": (FrameContrastSettings, FrameContrast),
}
