"""k-means: frames -> the index of the nearest centre.

Fitted by faiss from a k-means++ initialisation (Arthur and Vassilvitskii 2007): each next centre is drawn from the
frames with a probability proportional to the squared distance to those drawn so far. Here several initialisations are
fitted to a subset of the frames, and only the best one to all of them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pretrain.files import require_file

BLOCK = 8192  # frames assigned at a time
INITIALISATIONS = 5
SUBSET = 256  # frames per cluster to compare initialisations on
FORMAT = "ssl-vc k-means 1"


class KMeans:
    """The centres of k-means.

    Args:
        centres: (clusters, dim).
        facts: metadata of the frames they were fitted on, stored in the file.
    """

    def __init__(self, centres: Tensor, facts: Mapping[str, Any] | None = None) -> None:
        self.centres = centres.float().cpu().contiguous()
        self.facts = dict(facts or {})

    @property
    def clusters(self) -> int:
        """Number of centres."""
        return len(self.centres)

    @classmethod
    def fit(
        cls,
        frames: Tensor,
        clusters: int,
        seed: int = 0,
        *,
        iterations: int = 50,
        facts: Mapping[str, Any] | None = None,
    ) -> Self:
        """Cluster frames (n, dim), reproducibly.

        Args:
            frames: to cluster; their dimensions are not scaled.
            clusters: number of centres.
            seed: of the initialisations.
            iterations: maximum number, on all frames.
            facts: metadata, see above.
        """
        if frames.ndim != 2 or not 0 < clusters <= len(frames):
            raise ValueError(
                f"{tuple(frames.shape)} frames cannot make {clusters} clusters; give (n, dim), with n of at least that."
            )
        data = np.ascontiguousarray(frames.detach().float().cpu().numpy())
        if not np.isfinite(data).all():
            raise ValueError("the frames to cluster are not finite; check the features.")
        rng = np.random.default_rng(seed)
        subset = data[rng.choice(len(data), min(len(data), SUBSET * clusters), replace=False)]
        fits = [_lloyd(subset, _plus_plus(subset, clusters, rng), 10) for _ in range(INITIALISATIONS)]
        best = min(fits, key=lambda fit: fit[1])[0]
        return cls(torch.from_numpy(_lloyd(data, best, iterations)[0]), facts)

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> Tensor:
        """Return the index of the nearest centre of each frame (n, dim), as (n,) int64 on the frames' device."""
        if frames.ndim != 2 or frames.shape[1] != self.centres.shape[1]:
            dim = self.centres.shape[1]
            raise ValueError(f"the frames have shape {tuple(frames.shape)}; these centres need (n, {dim}).")
        mean = self.centres.mean(0)  # centred first, as float32 is more precise near 0
        centres = (self.centres - mean).to(frames.device)
        half = centres.square().sum(1) / 2  # |x - c|^2 / 2 = |x|^2 / 2 - (x.c - |c|^2 / 2)
        mean = mean.to(frames.device)
        blocks = [torch.addmm(-half, block.float() - mean, centres.T).argmax(1) for block in frames.split(BLOCK)]
        return torch.cat(blocks)

    def save(self, path: str | Path) -> None:
        """Write the centres and facts to a .safetensors file."""
        Path(path).write_bytes(save({"centres": self.centres}, {"format": FORMAT, "facts": json.dumps(self.facts)}))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a file by `save`."""
        try:
            with safe_open(require_file(path), "pt") as file:
                centres = file.get_tensor("centres").clone()  # it is memory-mapped, and the file may change
                return cls(centres, json.loads(file.metadata()["facts"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no k-means file ({str(error).splitlines()[0]}).") from None


def _plus_plus(data: npt.NDArray[np.float32], clusters: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw initial centres from (n, dim) by k-means++."""
    frames = torch.from_numpy(data)
    frames = frames - frames.mean(0)
    norms = frames.square().sum(1)
    chosen = [int(rng.integers(len(frames)))]
    nearest = torch.full_like(norms, torch.inf)
    while len(chosen) < clusters:
        last = frames[chosen[-1]]
        nearest = torch.minimum(nearest, (norms - 2 * (frames @ last) + last.square().sum()).clamp(min=0))
        nearest[chosen[-1]] = 0
        cumulative = nearest.double().cumsum(0).numpy()
        # if every frame equals a centre, any one will do
        chosen.append(int(np.searchsorted(cumulative, rng.random() * cumulative[-1], "right")) % len(frames))
    return data[chosen]


def _lloyd(
    data: npt.NDArray[np.float32], centres: npt.NDArray[np.float32], iterations: int
) -> tuple[npt.NDArray[np.float32], float]:
    """Run Lloyd's algorithm; return the centres, and the sum of squared distances to them.

    A centre that loses all its frames is moved next to one with many.
    """
    try:
        import faiss
    except ModuleNotFoundError:
        raise ValueError("k-means needs faiss, which is not installed; pip install 'ssl-vc[train]'.") from None
    limits = {"max_points_per_centroid": len(data), "min_points_per_centroid": 1}
    kmeans = faiss.Kmeans(data.shape[1], len(centres), niter=iterations, nredo=1, seed=1, **limits)
    kmeans.train(data, init_centroids=centres)
    assert kmeans.obj is not None
    return np.asarray(kmeans.centroids), float(kmeans.obj[-1])
