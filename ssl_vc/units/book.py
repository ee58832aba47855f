"""Book: what makes units of speech and melodies of units: centres of frames and of pitch, and what guesses the rest."""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pretrain.labels.kmeans import KMeans
from ssl_vc.files import replacing
from ssl_vc.units.prosody import Prosody

FORMAT = "ssl-vc units 1"


class Book:
    """Centres, and what goes with them.

    Args:
        content: centres of an encoder's content, of length 1 (see `ssl_vc.features.disentangled.content_of`).
        pitch: centres of stretches of pitch (see `ssl_vc.units.melody.blocks`).
        prosody: guesses what is not told.
        timbre: the mean of many voices (bands,), for units of nobody.
        facts: what made the content: the encoder's fingerprint and layer.
    """

    def __init__(self, content: KMeans, pitch: KMeans, prosody: Prosody, timbre: Tensor, facts: dict[str, Any]) -> None:
        self.content, self.pitch, self.prosody = content, pitch, prosody.eval().requires_grad_(False)
        self.timbre, self.facts = timbre, facts

    @property
    def clusters(self) -> int:
        """How many units there are."""
        return self.content.clusters

    @property
    def fingerprint(self) -> str:
        """What stands in files of units: 16 hexadecimal digits that change with whatever changes their meaning."""
        digest = hashlib.blake2b(json.dumps(self.facts, sort_keys=True).encode(), digest_size=8)
        for centres in (self.content.centres, self.pitch.centres):
            digest.update(centres.numpy().astype("<f4").tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write all to a .safetensors file."""
        tensors = {"content": self.content.centres, "pitch": self.pitch.centres, "timbre": self.timbre}
        tensors |= {f"prosody.{name}": value.half() for name, value in self.prosody.state_dict().items()}
        with replacing(Path(path)) as part:
            save_file(tensors, part, {"format": FORMAT, "facts": json.dumps(self.facts)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}")
            content = KMeans(tensors.pop("content"))
            pitch, timbre = KMeans(tensors.pop("pitch")), tensors.pop("timbre")
            prosody = Prosody(content.clusters)
            prosody.load_state_dict({name.removeprefix("prosody."): value for name, value in tensors.items()})
            return cls(content, pitch, prosody, timbre, json.loads(metadata["facts"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} holds no units of ours ({str(error).splitlines()[0]}).") from None


def runs_of(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Give the runs of equal ids (frames,), and how long each is."""
    runs, lengths = torch.unique_consecutive(ids, return_counts=True)
    return runs, lengths
