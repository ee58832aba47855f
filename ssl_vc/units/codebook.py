"""Codebook of a unit codec: k-means centres of content and F0, and the prosody predictor."""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pretrain.encoder.weights import build, require_finite
from pretrain.labels.kmeans import KMeans
from ssl_vc.files import replacing, require_file
from ssl_vc.units.prosody import ProsodyPredictor

FORMAT = "ssl-vc units 1"
FILE = "book.safetensors"


class Codebook:
    """K-means centres and what a decoder needs besides.

    Args:
        content: centres of normalised content (see `ssl_vc.features.disentangled.content_features`).
        pitch: centres of F0 blocks (see `ssl_vc.units.f0_codes.f0_blocks`).
        prosody: predicts durations and F0 that were not transmitted.
        timbre: mean of the training voices (bands,), for units without a voice.
        encoder_spec: encoder fingerprint and layer of the content.
    """

    def __init__(
        self, content: KMeans, pitch: KMeans, prosody: ProsodyPredictor, timbre: Tensor, encoder_spec: dict[str, Any]
    ) -> None:
        self.content, self.pitch, self.prosody = content, pitch, prosody.eval().requires_grad_(False)
        self.timbre, self.encoder_spec = timbre, encoder_spec

    @property
    def clusters(self) -> int:
        """Number of units."""
        return self.content.clusters

    @property
    def fingerprint(self) -> str:
        """Hash of all that gives units their meaning, 16 hexadecimal digits; stored in .units files."""
        digest = hashlib.blake2b(json.dumps(self.encoder_spec, sort_keys=True).encode(), digest_size=8)
        for centres in (self.content.centres, self.pitch.centres):
            digest.update(centres.numpy().astype("<f4").tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file."""
        tensors = {"content": self.content.centres, "pitch": self.pitch.centres, "timbre": self.timbre}
        tensors |= {f"prosody.{name}": value.half() for name, value in self.prosody.state_dict().items()}
        with replacing(Path(path)) as part:
            part.write_bytes(save(tensors, {"format": FORMAT, "facts": json.dumps(self.encoder_spec)}))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote."""
        try:
            with safe_open(require_file(path), "pt") as file:
                metadata = file.metadata() or {}
                # copied, as they are memory-mapped: the file may change
                tensors = {name: file.get_tensor(name).to(torch.float32, copy=True) for name in file.keys()}  # noqa: SIM118
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}")
            require_finite(tensors)
            content = KMeans(tensors.pop("content"))
            pitch, timbre = KMeans(tensors.pop("pitch")), tensors.pop("timbre")
            weights = {name.removeprefix("prosody."): value for name, value in tensors.items()}
            prosody = build(lambda: ProsodyPredictor(content.clusters), weights)
            return cls(content, pitch, prosody, timbre, json.loads(metadata["facts"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is not a codebook of ssl-vc ({str(error).splitlines()[0]}).") from None


def run_length_encode(ids: Tensor, longest: int | None = None) -> tuple[Tensor, Tensor]:
    """Returns the runs of equal ids (frames,) and their lengths, (runs,) each; runs above `longest` are divided."""
    runs, lengths = torch.unique_consecutive(ids, return_counts=True)
    if longest is None or int(lengths.max()) <= longest:
        return runs, lengths
    parts = -(-lengths // longest)
    divided = lengths.new_full((int(parts.sum()),), longest)
    divided[parts.cumsum(0) - 1] = lengths - (parts - 1) * longest
    return runs.repeat_interleave(parts), divided
