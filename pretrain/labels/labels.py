"""Labels: the number of a cluster for every frame of every clip, which HuBERT and WavLM learn to predict.

One k-means is fitted on frames of the training clips and used for all clips. The labels are a folder: `labels.u16` (all
clips' labels end to end; mapped, not read, so that any number of workers share one copy), `index.json` (whose they are,
and what made them), `kmeans.safetensors`, `quality.json`.
"""

import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretrain.data.manifest import BROKEN, Clip, Samples, ahead, decode, name_left_out
from pretrain.encoder.frontend import FIELD, HOP
from pretrain.labels.features import Features
from pretrain.labels.kmeans import KMeans
from pretrain.labels.quality import quality, usage

log = logging.getLogger(__name__)

FORMAT = "ssl-vc labels 1"
MOST_CLUSTERS = 2**16
FIT_FRAMES, FIT_NUMBERS = 1_000_000, 2**28  # k-means sees no more frames, nor more than 1 GiB of them
Hear = Callable[[list[Clip]], Iterator[tuple[str, Tensor]]]  # clips -> the key and frames (frames, dim) of each


class Phones(Protocol):
    """Phone alignments, as `pretrain.labels.align` makes them."""

    @property
    def symbols(self) -> list[str]:
        """The phones."""

    def __contains__(self, key: str) -> bool:
        """Tell whether a clip is aligned."""

    def __getitem__(self, key: str) -> npt.NDArray[np.int64]:
        """Give the number of the phone of each frame (frames,)."""


class Labels:
    """Labels of clips, by their keys; `Labels.open` reads them.

    Attributes:
        folder: where they are.
        clusters: labels are below this.
        facts: what made them.
        made_of: a fingerprint of the list of clips and of what was asked of them.
    """

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.folder = folder
        self.clusters: int = index["clusters"]
        self.facts: dict[str, Any] = index["facts"]
        self.made_of: str = index["made_of"]
        edges = pairwise(accumulate(index["counts"], initial=0))
        self._spans: dict[str, tuple[int, int]] = dict(zip(index["keys"], edges, strict=True))

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open what `make_labels` wrote."""
        folder = Path(folder).resolve()
        if not (folder / "index.json").is_file():
            raise ValueError(f"there are no labels at {folder}; `ssl-vc label` makes them.")
        try:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            size = (folder / "labels.u16").stat().st_size
            if index["format"] == FORMAT and size == 2 * sum(index["counts"]):
                return cls(folder, index)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise ValueError(f"{folder} holds no labels, or broken ones; remove it and make them with `ssl-vc label`.")

    def __reduce__(self) -> tuple[Any, ...]:  # or a worker would be sent all labels, not their place
        return type(self).open, (self.folder,)

    def __contains__(self, key: str) -> bool:
        return key in self._spans

    def __getitem__(self, key: str) -> npt.NDArray[np.int64]:
        """Give the labels of a clip (frames,)."""
        return self._units[slice(*self._spans[key])].astype(np.int64)

    @property
    def keys(self) -> list[str]:
        """The clips."""
        return list(self._spans)

    @property
    def frames(self) -> int:
        """How many labels there are."""
        return len(self._units)

    @property
    def kmeans(self) -> KMeans:
        """The centres that made them."""
        return KMeans.load(self.folder / "kmeans.safetensors")

    def quality(self, phones: Phones | None = None) -> dict[str, float]:
        """Measure how evenly the clusters are used and, with phones, how much they tell of them.

        See `pretrain.labels.quality`. It is written to `quality.json`, too.
        """
        counts = np.zeros(self.clusters, np.int64)
        for key in self._spans:
            counts += np.bincount(self[key], minlength=self.clusters)
        found = {"clips": len(self._spans), "frames": self.frames, **usage(counts)}
        if phones is not None:
            pairs = ((self[key], phones[key]) for key in self._spans if key in phones)
            found |= quality(pairs, self.clusters, len(phones.symbols))
        part = self.folder / ".quality.part"
        part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        part.replace(self.folder / "quality.json")
        return found

    @cached_property
    def _units(self) -> npt.NDArray[np.uint16]:
        return np.memmap(self.folder / "labels.u16", "<u2", "r")


def decoded(clip: Clip) -> Samples:
    """Read a clip from its own file."""
    return decode(clip.path)


def make_labels(
    clips: list[Clip],
    folder: str | Path,
    source: Features,
    *,
    clusters: int = 100,
    seed: int = 0,
    fit_hours: float = 10.0,
    fit_on: list[Clip] | None = None,
    model: KMeans | None = None,
    facts: Mapping[str, Any] | None = None,
    keep: bool = False,
    read: Callable[[Clip], Samples] = decoded,
    workers: int = 4,
) -> Labels:
    """Label clips, or open their labels if they are there; clips that cannot be used are named and left out.

    Args:
        clips: what to label.
        folder: where to.
        source: what to cluster.
        clusters: how many.
        seed: of the choice of frames and of the clustering.
        fit_hours: how much speech to fit the clusters on.
        fit_on: clips to fit them on; all clips if None.
        model: clusters fitted before; `clusters`, `seed`, `fit_hours` and `fit_on` then mean nothing.
        facts: what else the labels should say of their making.
        keep: refuse to replace labels that were made otherwise.
        read: gives a clip's samples at 16 kHz (samples,); called by several threads.
        workers: how many clips are read at the same time.
    """
    folder = Path(folder)
    fit_on = clips if fit_on is None else fit_on
    made: dict[str, Any] = {**source.facts, **(facts or {})}
    if model:
        made |= {"clusters": model.clusters, "fitted_before": _digest(model.centres.numpy().tobytes())}
    else:
        made |= {"clusters": clusters, "seed": seed, "fit_hours": fit_hours}
    _check(clips, source, made["clusters"], model)
    heard = [[(clip.key, clip.seconds) for clip in part] for part in (clips, [] if model else fit_on)]
    made_of = _digest(json.dumps([made, heard], sort_keys=True).encode())
    if folder.exists() and any(folder.iterdir()):
        there = Labels.open(folder)  # which refuses a folder of something else before it is removed
        if there.made_of == made_of:
            return there
        if keep:
            raise ValueError(
                f"{folder} holds labels of other clips, or made otherwise; take another folder, or have them replaced "
                "(`ssl-vc label --force`)."
            )
    hear = partial(_frames, source=source, read=read, workers=workers)
    kmeans = model or _fit(_chosen(fit_on, fit_hours, seed), hear, source.facts, clusters, seed)
    log.info("labelling %d clips", len(clips))
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        counts = _write(part / "labels.u16", ((key, kmeans(frames)) for key, frames in hear(clips)))
        index = {"format": FORMAT, "clusters": kmeans.clusters, "facts": made, "made_of": made_of}
        text = json.dumps({**index, "keys": list(counts), "counts": list(counts.values())})
        (part / "index.json").write_text(text, encoding="utf-8")
        kmeans.save(part / "kmeans.safetensors")
        Labels.open(part).quality()
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Labels.open(folder)


def _check(clips: list[Clip], source: Features, clusters: int, model: KMeans | None) -> None:
    twice = [key for key, count in Counter(clip.key for clip in clips).items() if count > 1]
    if twice:
        raise ValueError(
            f"two clips are called {twice[0]!r}, so their labels could not be told apart; list them in one table."
        )
    if not 2 <= clusters <= MOST_CLUSTERS:
        raise ValueError(f"{clusters} clusters were asked for; possible are 2 to {MOST_CLUSTERS}.")
    if model and model.facts and model.facts != source.facts:
        raise ValueError(f"the k-means was fitted on {model.facts}, and these frames are {source.facts}; fit another.")


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _chosen(clips: list[Clip], hours: float, seed: int) -> list[Clip]:
    """Draw clips that last so many hours together; all if they are shorter."""
    order = [clips[n] for n in np.random.default_rng(seed).permutation(len(clips))]
    before = accumulate((clip.seconds for clip in order), initial=0.0)
    return [clip for clip, seconds in zip(order, before, strict=False) if seconds < hours * 3600]


def _fit(clips: list[Clip], hear: Hear, facts: dict[str, Any], clusters: int, seed: int) -> KMeans:
    """Cluster frames drawn evenly from all clips."""
    seconds = sum(clip.seconds for clip in clips)
    log.info("fitting %d clusters to %d clips, %.1f h", clusters, len(clips), seconds / 3600)
    share = min(FIT_FRAMES, FIT_NUMBERS // facts["dim"]) / max(50 * seconds, 1)
    rng = np.random.default_rng(seed)
    drawn = []
    for _, frames in hear(clips):
        wanted = torch.from_numpy(rng.random(len(frames)) < share)
        drawn.append(frames[wanted.to(frames.device)].cpu())
    return KMeans.fit(torch.cat(drawn), clusters, seed, facts=facts)


def _write(file: Path, labels: Iterable[tuple[str, Tensor]]) -> dict[str, int]:
    """Write labels end to end, and give how many each clip has."""
    counts = {}
    with file.open("wb") as stream:
        for key, units in labels:
            stream.write(units.cpu().numpy().astype("<u2").tobytes())
            counts[key] = len(units)
    return counts


def _frames(
    clips: list[Clip], *, source: Features, read: Callable[[Clip], Samples], workers: int
) -> Iterator[tuple[str, Tensor]]:
    """Give the key and frames of each clip, in order, while the next ones are being read."""
    left_out = []
    for clip, pending in ahead(clips, read, workers):
        try:
            wav = pending.result()
        except BROKEN as error:
            left_out.append(f"{clip.key} ({str(error).splitlines()[0]})")
            continue
        if len(wav) < FIELD:
            left_out.append(f"{clip.key} (too short: {len(wav)} samples)")
            continue
        frames = source(torch.from_numpy(wav))
        if len(frames) != (len(wav) - FIELD) // HOP + 1:
            raise ValueError(f"{clip.key} has {len(wav)} samples, and {len(frames)} frames came of it.")
        yield clip.key, frames
    name_left_out(left_out)
    if len(left_out) == len(clips):
        raise ValueError(f"no clip can be labelled; the first: {left_out[0] if left_out else 'there are none'}.")
