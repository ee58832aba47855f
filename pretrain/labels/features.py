"""Features that are clustered into labels."""

from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from pretrain.encoder import SpeechEncoder
from pretrain.encoder.framing import HOP, num_samples
from pretrain.labels.mfcc import DIM, frame_mfcc

WINDOW = 1500  # frames of a long clip computed at a time, besides their context


class Features(Protocol):
    """Features to cluster."""

    @property
    def facts(self) -> dict[str, Any]:
        """Metadata that identifies the features, as JSON values; among them their `dim`."""

    def __call__(self, wav: Tensor) -> Tensor:
        """Map 16 kHz (samples,) to (frames, dim), one every 20 ms: (samples - 400) // 320 + 1 of them."""


class MfccFeatures:
    """The features of HuBERT's first iteration: 13 MFCC and their first two derivatives."""

    facts: dict[str, Any] = {"kind": "mfcc", "dim": DIM}  # noqa: RUF012

    def __call__(self, wav: Tensor) -> Tensor:
        """Map (samples,) to (frames, 39)."""
        return frame_mfcc(wav[None])[0]


class LayerFeatures:
    """A layer of an encoder, which stays unchanged and must not be trained meanwhile.

    Args:
        encoder: shared, not copied.
        layer: of the encoder.
        device: to compute on.
        less_mean: subtract each clip's mean, which removes speaker information, and scale each frame to length 1.
    """

    def __init__(
        self, encoder: SpeechEncoder, layer: int, device: str | torch.device = "cpu", *, less_mean: bool = False
    ) -> None:
        config = encoder.config
        source = {"encoder": encoder.fingerprint(layer), "layer": layer, "normalized": config.normalized}
        self.facts: dict[str, Any] = {"kind": "ssl", **source, "dim": config.dim}
        if less_mean:
            self.facts["less_mean"] = True
        self.layer, self.less_mean = layer, less_mean
        self.device = torch.device(device)
        self.context = config.context_frames
        self.encoder = encoder.first_layers(layer).eval().requires_grad_(False).to(self.device)

    def __call__(self, wav: Tensor) -> Tensor:
        """Map (samples,) to (frames, dim); clips above half a minute in overlapping windows, to bound memory."""
        frames = self._frames(wav)
        return torch.nn.functional.normalize(frames - frames.mean(0), dim=1) if self.less_mean else frames

    @torch.no_grad()
    def _frames(self, wav: Tensor) -> Tensor:
        wav = wav[None].to(self.device)
        total = self.encoder.num_frames(wav.shape[1])
        if total <= WINDOW + 2 * self.context:
            return self.encoder(wav, layer=self.layer)[0]
        statistics = self.encoder.statistics(wav)
        count = -(-total // WINDOW)
        windows = []
        for start, stop in pairwise(total * n // count for n in range(count + 1)):
            first, last = max(start - self.context, 0), min(stop + self.context, total)
            end = wav.shape[1] if last == total else num_samples(last)
            window = self.encoder(wav[:, first * HOP : end], layer=self.layer, statistics=statistics)[0]
            windows.append(window[start - first : stop - first])
        return torch.cat(windows)
