"""Features: the frames that are clustered into labels."""

from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from pretrain.encoder import SpeechEncoder
from pretrain.encoder.frontend import FIELD, HOP
from pretrain.labels.mfcc import DIM, frame_mfcc

CORE, CONTEXT = 1500, 64  # frames of a long clip computed at a time, and what is heard beside them


class Features(Protocol):
    """What is clustered."""

    @property
    def facts(self) -> dict[str, Any]:
        """What makes the frames, as JSON can hold it; `dim` says how many numbers one has."""

    def __call__(self, wav: Tensor) -> Tensor:
        """Map 16 kHz (samples,) to (frames, dim), one every 20 ms: (samples - 400) // 320 + 1 of them."""


class MfccFeatures:
    """What HuBERT starts from: 13 MFCC and two derivatives of each."""

    facts: dict[str, Any] = {"kind": "mfcc", "dim": DIM}  # noqa: RUF012

    def __call__(self, wav: Tensor) -> Tensor:
        """Map (samples,) to (frames, 39)."""
        return frame_mfcc(wav[None])[0]


class LayerFeatures:
    """A layer of an encoder, which is left as it is; do not train it meanwhile.

    Args:
        encoder: any.
        layer: which of its layers.
        device: where to compute.
        less_mean: give what is said without who says it: less the clip's mean, each frame of length 1.
    """

    def __init__(
        self, encoder: SpeechEncoder, layer: int, device: str | torch.device = "cpu", *, less_mean: bool = False
    ) -> None:
        config = encoder.config
        made_by = {"encoder": encoder.fingerprint(layer), "layer": layer, "normalized": config.normalized}
        self.facts: dict[str, Any] = {"kind": "ssl", **made_by, "dim": config.dim}
        if less_mean:
            self.facts["less_mean"] = True
        self.layer, self.less_mean = layer, less_mean
        self.device = torch.device(device)
        self.context = max(CONTEXT, config.pos_kernel // 2 + 2)
        self.encoder = encoder.first_layers(layer).eval().requires_grad_(False).to(self.device)

    def __call__(self, wav: Tensor) -> Tensor:
        """Map (samples,) to (frames, dim); clips above half a minute piece by piece, as the encoder has no end."""
        frames = self._frames(wav)
        return torch.nn.functional.normalize(frames - frames.mean(0), dim=1) if self.less_mean else frames

    @torch.no_grad()
    def _frames(self, wav: Tensor) -> Tensor:
        wav = wav[None].to(self.device)
        total = self.encoder.num_frames(wav.shape[1])
        if total <= CORE + 2 * self.context:
            return self.encoder(wav, layer=self.layer)[0]
        statistics = self.encoder.statistics(wav)
        count = -(-total // CORE)
        pieces = []
        for start, stop in pairwise(total * n // count for n in range(count + 1)):
            first, last = max(start - self.context, 0), min(stop + self.context, total)
            end = wav.shape[1] if last == total else (last - 1) * HOP + FIELD
            heard = self.encoder(wav[:, first * HOP : end], layer=self.layer, statistics=statistics)[0]
            pieces.append(heard[start - first : stop - first])
        return torch.cat(pieces)
