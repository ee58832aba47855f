"""Models by name: what is bundled, and what others published."""

from dataclasses import replace
from pathlib import Path

import torch

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.encoder import foreign

BUNDLED = Path(__file__).parent / "models"
POSSIBLE = "'untrained' (random weights), a folder, a .pt file, or a hub id such as microsoft/wavlm-large"


def load_encoder(name: str, normalized: bool | None = None) -> SpeechEncoder:
    """Load the encoder called `name`.

    Args:
        name: `tiny` (bundled), `untrained` (random weights, always the same: to try the machinery, not to hear words),
            a folder or hub id of ours, or anything that `SpeechEncoder.from_foreign` reads.
        normalized: whether its input is brought to zero mean and unit variance; its own habit if None. kNN-VC's
            vocoders want WavLM-Large fed with the raw waveform (False), although it was trained otherwise.
    """
    encoder = _load(name)
    if normalized is not None:
        encoder.config = replace(encoder.config, normalized=normalized)
    return encoder


def _load(name: str) -> SpeechEncoder:
    if name == "untrained":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return SpeechEncoder(EncoderConfig.tiny(matching_layer=4)).eval()
    if name == "tiny":
        folder = BUNDLED / "tiny" / "encoder"
        if not folder.is_dir():
            raise ValueError(f"the model 'tiny' is not bundled in this version yet; possible are {POSSIBLE}.")
        return SpeechEncoder.from_pretrained(folder)
    is_file = Path(name).suffix in (".pt", ".pth") or name.startswith("torchaudio:")
    is_hub_id = name.count("/") == 1 and not Path(name).exists()
    if not (Path(name).is_dir() or is_file or is_hub_id):
        raise ValueError(f"there is no model {name!r}; possible are {POSSIBLE}.")
    if foreign.is_foreign(name):
        return SpeechEncoder.from_foreign(name)
    return SpeechEncoder.from_pretrained(name)
