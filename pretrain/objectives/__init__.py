"""Pretraining objectives, one file each, behind one protocol."""

from pretrain.objectives.best_rq import BestRq, BestRqSettings
from pretrain.objectives.cpc import Cpc, CpcSettings
from pretrain.objectives.data2vec import Data2Vec, Data2VecSettings
from pretrain.objectives.dinosr import DinoSr, DinoSrSettings, SpidrSettings
from pretrain.objectives.discrete_bert import DiscreteBert, DiscreteBertSettings
from pretrain.objectives.frame_contrast import FrameContrast, FrameContrastSettings
from pretrain.objectives.hubert import Hubert, HubertSettings
from pretrain.objectives.protocol import Objective, Settings
from pretrain.objectives.vq_wav2vec import VqWav2Vec, VqWav2VecSettings
from pretrain.objectives.wav2vec import Wav2Vec, Wav2VecSettings
from pretrain.objectives.wav2vec2 import Wav2Vec2, Wav2Vec2Settings
from pretrain.objectives.wavlm import WavlmSettings

__all__ = ["OBJECTIVES", "Objective", "Settings"]

# name -> its settings, and its module
OBJECTIVES: dict[str, tuple[type[Settings], type[Objective]]] = {
    "hubert": (HubertSettings, Hubert),
    "wavlm": (WavlmSettings, Hubert),
    "cpc": (CpcSettings, Cpc),
    "wav2vec": (Wav2VecSettings, Wav2Vec),
    "vq_wav2vec": (VqWav2VecSettings, VqWav2Vec),
    "wav2vec2": (Wav2Vec2Settings, Wav2Vec2),
    "best_rq": (BestRqSettings, BestRq),
    "data2vec": (Data2VecSettings, Data2Vec),
    "dinosr": (DinoSrSettings, DinoSr),
    "spidr": (SpidrSettings, DinoSr),
    "discrete_bert": (DiscreteBertSettings, DiscreteBert),
    "frame_contrast": (FrameContrastSettings, FrameContrast),
}
