"""The trained vocoders by name, and one function that loads any of them."""

import os
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from vocoder.bigvgan import BigVGAN, BigVGANConfig
from vocoder.export import OpenVINOVocoder
from vocoder.files import read_json
from vocoder.hifigan import HiFiGAN, HiFiGANConfig
from vocoder.network import NeuralVocoder, VocoderConfig
from vocoder.unit_hifigan import UnitHiFiGAN, UnitHiFiGANConfig
from vocoder.vocos import Vocos, VocosConfig

KINDS: dict[str, tuple[type[NeuralVocoder], type[VocoderConfig]]] = {
    "hifigan": (HiFiGAN, HiFiGANConfig),
    "vocos": (Vocos, VocosConfig),
    "bigvgan": (BigVGAN, BigVGANConfig),
    "unit-hifigan": (UnitHiFiGAN, UnitHiFiGANConfig),
}


def load(source: str | Path) -> NeuralVocoder:
    """Load a trained vocoder, in evaluation mode.

    Args:
        source: a folder or hub id of ours, a folder written by `vocoder.export`, kNN-VC's or jik876's generator file,
            or a folder of NVIDIA's BigVGAN or gemelo-ai's Vocos for mel spectrograms.
    """
    path = Path(source)
    if not os.path.lexists(path / "config.json") and (path / "model" / "config.json").is_file():
        path = path / "model"  # of a training folder
    if path.is_file():
        return HiFiGAN.from_foreign(path)
    if (path / "bigvgan_generator.pt").is_file():
        return BigVGAN.from_foreign(path)
    if (path / "pytorch_model.bin").is_file():
        return Vocos.from_foreign(path)
    try:
        config = path / "config.json" if path.is_dir() else Path(hf_hub_download(str(source), "config.json"))
        vocoder, config_class = KINDS[(settings := read_json(config))["kind"]]
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ValueError(f"there is no vocoder {str(source)!r} ({str(error).splitlines()[0]}).") from None
    except (KeyError, TypeError):
        raise ValueError(
            f"the config.json of {source} is not a vocoder's; `kind` must be one of {', '.join(KINDS)}."
        ) from None
    if (path / "vocoder.xml").is_file():
        context = settings.pop("context")
        return OpenVINOVocoder(path, config_class(**settings), context)
    return vocoder.from_pretrained(path if path.is_dir() else source)
