"""k-means: frames -> the number of the nearest of some centres.

Fitted by faiss from a k-means++ start (Arthur and Vassilvitskii 2007): each next centre is drawn from the frames with
a probability that grows with the squared distance to those drawn so far. Here several starts are tried on a part of
the frames, and only the best goes on with all of them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

BLOCK = 8192  # frames compared at a time
STARTS = 5
PART = 256  # frames for every cluster that the starts are tried on
FORMAT = "ssl-vc k-means 1"


class KMeans:
    """Centres, and what they were fitted on.

    Args:
        centres: (clusters, dim).
        facts: what made the frames; it stands in the file.
    """

    def __init__(self, centres: Tensor, facts: Mapping[str, Any] | None = None) -> None:
        self.centres = centres.float().cpu().contiguous()
        self.facts = dict(facts or {})

    @property
    def clusters(self) -> int:
        """How many centres there are."""
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
        """Cluster frames (n, dim); the same frames and seed give the same centres.

        Args:
            frames: what to cluster, as it is: no number of a frame is made to count as much as another.
            clusters: how many centres.
            seed: of the starts.
            iterations: at most, with all frames.
            facts: see above.
        """
        if frames.ndim != 2 or not 0 < clusters <= len(frames):
            raise ValueError(f"{tuple(frames.shape)} frames cannot make {clusters} clusters; give (n, dim), n as many.")
        data = np.ascontiguousarray(frames.detach().float().cpu().numpy())
        if not np.isfinite(data).all():
            raise ValueError("the frames to cluster hold infinite numbers or none at all; find what made them.")
        rng = np.random.default_rng(seed)
        part = data[rng.choice(len(data), min(len(data), PART * clusters), replace=False)]
        starts = [_lloyd(part, _start(part, clusters, rng), 10) for _ in range(STARTS)]
        best = min(starts, key=lambda start: start[1])[0]
        return cls(torch.from_numpy(_lloyd(data, best, iterations)[0]), facts)

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> Tensor:
        """Give the nearest centre of each frame (n, dim), as (n,) int64 on the frames' device."""
        if frames.ndim != 2 or frames.shape[1] != self.centres.shape[1]:
            dim = self.centres.shape[1]
            raise ValueError(f"the frames have the shape {tuple(frames.shape)}; these centres want (n, {dim}).")
        middle = self.centres.mean(0)  # float32 tells small numbers apart better than large ones
        centres = (self.centres - middle).to(frames.device)
        half = centres.square().sum(1) / 2  # |x - c|^2 / 2 = |x|^2 / 2 - (x.c - |c|^2 / 2)
        middle = middle.to(frames.device)
        blocks = [torch.addmm(-half, block.float() - middle, centres.T).argmax(1) for block in frames.split(BLOCK)]
        return torch.cat(blocks)

    def save(self, path: str | Path) -> None:
        """Write the centres and facts to a .safetensors file."""
        save_file({"centres": self.centres}, path, {"format": FORMAT, "facts": json.dumps(self.facts)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        try:
            with safe_open(path, "pt") as file:
                return cls(file.get_tensor("centres"), json.loads(file.metadata()["facts"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no k-means of ours ({str(error).splitlines()[0]}).") from None


def _start(data: npt.NDArray[np.float32], clusters: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw centres from (n, dim) the k-means++ way."""
    frames = torch.from_numpy(data)
    frames = frames - frames.mean(0)
    norms = frames.square().sum(1)
    chosen = [int(rng.integers(len(frames)))]
    nearest = torch.full_like(norms, torch.inf)
    while len(chosen) < clusters:
        last = frames[chosen[-1]]
        nearest = torch.minimum(nearest, (norms - 2 * (frames @ last) + last.square().sum()).clamp(min=0))
        nearest[chosen[-1]] = 0
        steps = nearest.double().cumsum(0).numpy()
        # where every frame stands on a centre already, all are as good
        chosen.append(int(np.searchsorted(steps, rng.random() * steps[-1], "right")) % len(frames))
    return data[chosen]


def _lloyd(
    data: npt.NDArray[np.float32], centres: npt.NDArray[np.float32], iterations: int
) -> tuple[npt.NDArray[np.float32], float]:
    """Move centres to the middle of their frames; give them, and the sum of squared distances that is left.

    A centre that loses all its frames starts anew beside one with many.
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
