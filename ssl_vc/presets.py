"""Models by name: what is bundled, and what others published."""

from pathlib import Path

import torch

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.encoder import foreign

BUNDLED = Path(__file__).parent / "models"


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
            raise ValueError(
                "the model 'tiny' is not bundled in this version; possible are 'untrained' (random weights), a folder, "
                "a .pt file or a hub id such as microsoft/wavlm-large."
            )
        return SpeechEncoder.from_pretrained(folder).eval()
    if foreign.is_foreign(name):
        return SpeechEncoder.from_foreign(name)
    try:
        return SpeechEncoder.from_pretrained(name).eval()
    except (OSError, TypeError) as error:  # no folder, no such hub id, no network; a config.json without our words
        raise ValueError(f"the model {name!r} cannot be loaded: {str(error).splitlines()[0]}") from error
