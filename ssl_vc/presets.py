"""Models by name: what is bundled, and what others published."""

from pathlib import Path

import torch

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.encoder import foreign

BUNDLED = Path(__file__).parent / "models"
POSSIBLE = "'untrained' (random weights), a folder, a .pt file, or a hub id such as microsoft/wavlm-large"


def load_encoder(name: str) -> SpeechEncoder:
    """Load the encoder called `name`.

    Args:
        name: `tiny` (bundled), `untrained` (random weights, always the same: to try the machinery, not to hear words),
            a folder or hub id of ours, or anything that `SpeechEncoder.from_foreign` reads.
    """
    if name == "untrained":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return SpeechEncoder(EncoderConfig.tiny(matching_layer=4)).eval()
    if name == "tiny":
        folder = BUNDLED / "tiny" / "encoder"
        if not folder.is_dir():
            raise ValueError(f"the model 'tiny' is not bundled in this version yet; possible are {POSSIBLE}.")
        return SpeechEncoder.from_pretrained(folder)
    if not (Path(name).exists() or Path(name).suffix in (".pt", ".pth") or name.count("/") == 1 or ":" in name):
        raise ValueError(f"there is no model {name!r}; possible are {POSSIBLE}.")
    if foreign.is_foreign(name):
        return SpeechEncoder.from_foreign(name)
    return SpeechEncoder.from_pretrained(name)
