"""Labels of a quantiser: the combinations of its codes, as centres of k-means.

Of two codebooks of 320, only some of the 102 400 pairs occur. Those of the training clips are the clusters; a pair that
occurs elsewhere gets the cluster with the most similar vectors.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pretrain.encoder import SpeechEncoder
from pretrain.encoder.fingerprint import fingerprint
from pretrain.encoder.quantiser_file import Quantiser
from pretrain.labels.kmeans import KMeans
from pretrain.labels.kmeans_labels import MAX_CLUSTERS


class CodeFeatures:
    """The vectors of an encoder's codes, which stays unchanged.

    Args:
        encoder: whose front end is used.
        quantiser: that its features go to.
        device: to compute on.
    """

    def __init__(self, encoder: SpeechEncoder, quantiser: Quantiser, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.encoder = encoder.first_layers(0).eval().requires_grad_(False).to(self.device)
        self.quantiser = quantiser.eval().requires_grad_(False).to(self.device)
        dim = quantiser.codebooks.shape[0] * quantiser.codebooks.shape[2]
        hashes = {"encoder": encoder.fingerprint(0), "quantiser": fingerprint(encoder.config, quantiser.state_dict())}
        self.facts: dict[str, Any] = {"kind": "codes", **hashes, "dim": dim}

    @torch.no_grad()
    def __call__(self, wav: Tensor) -> Tensor:
        """Map (samples,) to (frames, dim)."""
        return self.quantiser.vectors(self.codes(wav))

    @torch.no_grad()
    def codes(self, wav: Tensor) -> Tensor:
        """Map (samples,) to codes (frames, groups)."""
        features = self.encoder.features(wav[None].to(self.device))
        return self.quantiser.codes(self.encoder.feature_norm(features))[0]

    def clusters(self, wavs: Iterable[Tensor]) -> KMeans:
        """Return the combinations of codes that occur in waveforms (samples,), the most frequent first."""
        found: dict[tuple[int, ...], int] = {}
        for wav in wavs:
            rows, counts = self.codes(wav).cpu().unique(dim=0, return_counts=True)
            for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
                found[tuple(row)] = found.get(tuple(row), 0) + count
        frequent = sorted(found, key=lambda row: (-found[row], row))[:MAX_CLUSTERS]
        if len(frequent) < 2:
            raise ValueError("all frames have the same codes: the quantiser has collapsed; train it again.")
        centres = self.quantiser.vectors(torch.tensor(frequent, device=self.device))
        return KMeans(centres.cpu(), self.facts)
