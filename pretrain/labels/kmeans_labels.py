"""k-means labels: the cluster of every frame of every clip, which HuBERT and WavLM predict.

One k-means is fitted on frames of the training clips and applied to all clips. The labels are a folder: `labels.u16`
(the labels of all clips, concatenated; memory-mapped, so that all workers share one copy), `index.json` (the clips and
metadata), `kmeans.safetensors`, `quality.json`.
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

from pretrain.data.manifest import READ_ERRORS, Clip, Samples, decode, log_skipped, prefetch
from pretrain.encoder.framing import FRAME_RATE, RECEPTIVE_FIELD, num_frames
from pretrain.files import read_json
from pretrain.labels.features import Features
from pretrain.labels.kmeans import KMeans
from pretrain.labels.phone_metrics import cluster_usage, phone_metrics

log = logging.getLogger(__name__)

FORMAT = "ssl-vc labels 1"
MAX_CLUSTERS = 2**16
FIT_FRAMES, FIT_VALUES = 1_000_000, 2**28  # limits on what k-means is fitted to: 2**28 values take 1 GiB
ExtractFrames = Callable[[list[Clip]], Iterator[tuple[str, Tensor]]]  # yields the key and frames (frames, dim) of clips


class PhoneLabels(Protocol):
    """Phone labels, as from `pretrain.labels.align`."""

    @property
    def symbols(self) -> list[str]:
        """The phones."""

    def __contains__(self, key: str) -> bool:
        """Return whether a clip has an alignment."""

    def __getitem__(self, key: str) -> npt.NDArray[np.int64]:
        """Return a clip's phone ids (frames,)."""


class KMeansLabels:
    """k-means labels by clip key; `KMeansLabels.open` reads them.

    Attributes:
        folder: of the labels.
        clusters: number of clusters.
        facts: metadata: the features and the settings of k-means.
        fingerprint: hash of the metadata and the list of clips.
    """

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.folder = folder
        self.clusters: int = index["clusters"]
        self.facts: dict[str, Any] = index["facts"]
        self.fingerprint: str = index["made_of"]
        edges = pairwise(accumulate(index["counts"], initial=0))
        self._spans: dict[str, tuple[int, int]] = dict(zip(index["keys"], edges, strict=True))

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a folder by `label_clips`."""
        folder = Path(folder).resolve()
        if not (folder / "index.json").is_file():
            raise ValueError(f"there are no labels at {folder}; `ssl-vc label` makes them.")
        try:
            index = read_json(folder / "index.json")
            size = (folder / "labels.u16").stat().st_size
            if index["format"] == FORMAT and size == 2 * sum(index["counts"]):
                return cls(folder, index)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise ValueError(f"{folder} holds no labels, or broken ones; remove it and make them with `ssl-vc label`.")

    def __reduce__(self) -> tuple[Any, ...]:  # workers get the path rather than a copy of the labels
        return type(self).open, (self.folder,)

    def __contains__(self, key: str) -> bool:
        return key in self._spans

    def __getitem__(self, key: str) -> npt.NDArray[np.int64]:
        """Return a clip's labels (frames,)."""
        return self._units[slice(*self._spans[key])].astype(np.int64)

    @property
    def keys(self) -> list[str]:
        """Keys of the clips."""
        return list(self._spans)

    @property
    def frames(self) -> int:
        """Total number of frames."""
        return len(self._units)

    @property
    def kmeans(self) -> KMeans:
        """The k-means that assigned the labels."""
        return KMeans.load(self.folder / "kmeans.safetensors")

    def evaluate(self, phones: PhoneLabels | None = None) -> dict[str, float]:
        """Return cluster usage and, with phones, phone purity and PNMI; also written to `quality.json`.

        See `pretrain.labels.phone_metrics`.
        """
        counts = np.zeros(self.clusters, np.int64)
        for key in self._spans:
            counts += np.bincount(self[key], minlength=self.clusters)
        metrics = {"clips": len(self._spans), "frames": self.frames, **cluster_usage(counts)}
        if phones is not None:
            pairs = ((self[key], phones[key]) for key in self._spans if key in phones)
            metrics |= phone_metrics(pairs, self.clusters, len(phones.symbols))
        part = self.folder / ".quality.part"
        try:
            part.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
            part.replace(self.folder / "quality.json")
        finally:
            part.unlink(missing_ok=True)
        return metrics

    @cached_property
    def _units(self) -> npt.NDArray[np.uint16]:
        return np.memmap(self.folder / "labels.u16", "<u2", "r")


def read_clip(clip: Clip) -> Samples:
    """Decode a clip's own file, not its source."""
    return decode(clip.path)


def label_clips(
    clips: list[Clip],
    folder: str | Path,
    features: Features,
    *,
    clusters: int = 100,
    seed: int = 0,
    fit_hours: float = 10.0,
    fit_on: list[Clip] | None = None,
    model: KMeans | None = None,
    facts: Mapping[str, Any] | None = None,
    keep: bool = False,
    read: Callable[[Clip], Samples] = read_clip,
    workers: int = 4,
) -> KMeansLabels:
    """Fit k-means and label clips, or open the labels if they exist; unusable clips are skipped and logged.

    Args:
        clips: to label.
        folder: of the labels.
        features: to cluster.
        clusters: number of clusters.
        seed: of the sampling of frames and of k-means.
        fit_hours: amount of speech to fit k-means on.
        fit_on: clips to fit it on; all clips if None.
        model: a fitted k-means; then `clusters`, `seed`, `fit_hours` and `fit_on` are ignored.
        facts: further metadata to store.
        keep: refuse to replace labels with other settings.
        read: returns a clip's waveform at 16 kHz (samples,); called by several threads.
        workers: number of these threads.
    """
    folder = Path(folder)
    fit_on = clips if fit_on is None else fit_on
    settings: dict[str, Any] = {**features.facts, **(facts or {})}
    if model:
        settings |= {"clusters": model.clusters, "fitted_before": _digest(model.centres.numpy().tobytes())}
    else:
        settings |= {"clusters": clusters, "seed": seed, "fit_hours": fit_hours}
    _check(clips, features, settings["clusters"], model)
    listed = [[(clip.key, clip.seconds) for clip in part] for part in (clips, [] if model else fit_on)]
    fingerprint = _digest(json.dumps([settings, listed], sort_keys=True).encode())
    existing = _existing(folder, fingerprint, keep)
    if existing:
        return existing
    extract = partial(_frames, features=features, read=read, workers=workers)
    kmeans = model or _fit(_sample(fit_on, fit_hours, seed), extract, features.facts, clusters, seed)
    log.info("labelling %d clips", len(clips))
    labels = ((key, kmeans(frames)) for key, frames in extract(clips))
    _write(folder, kmeans, labels, facts=settings, fingerprint=fingerprint)
    return KMeansLabels.open(folder)


def _existing(folder: Path, fingerprint: str, keep: bool) -> KMeansLabels | None:
    """Open a folder's labels if they have this fingerprint; with `keep`, refuse others."""
    if not folder.exists() or not any(folder.iterdir()):
        return None
    labels = KMeansLabels.open(folder)  # which protects a folder of anything else from being replaced
    if labels.fingerprint == fingerprint:
        return labels
    if keep:
        raise ValueError(
            f"{folder} holds labels of other clips, or with other settings; choose another folder, or replace them "
            "(`ssl-vc label --force`)."
        )
    return None


def _check(clips: list[Clip], features: Features, clusters: int, model: KMeans | None) -> None:
    duplicates = [key for key, count in Counter(clip.key for clip in clips).items() if count > 1]
    if duplicates:
        raise ValueError(f"two clips are called {duplicates[0]!r}, so their labels are ambiguous; use one manifest.")
    if not 2 <= clusters <= MAX_CLUSTERS:
        raise ValueError(f"clusters is {clusters}; possible are 2 to {MAX_CLUSTERS}.")
    if model and model.facts and model.facts != features.facts:
        raise ValueError(
            f"the k-means was fitted on {model.facts}, but these features are {features.facts}; fit another."
        )


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _sample(clips: list[Clip], hours: float, seed: int) -> list[Clip]:
    """Draw clips of a total duration; all if they are shorter."""
    order = [clips[n] for n in np.random.default_rng(seed).permutation(len(clips))]
    before = accumulate((clip.seconds for clip in order), initial=0.0)
    return [clip for clip, seconds in zip(order, before, strict=False) if seconds < hours * 3600]


def _fit(clips: list[Clip], extract: ExtractFrames, facts: dict[str, Any], clusters: int, seed: int) -> KMeans:
    """Fit k-means to frames sampled uniformly from all clips."""
    seconds = sum(clip.seconds for clip in clips)
    log.info("fitting %d clusters to %d clips, %.1f h", clusters, len(clips), seconds / 3600)
    share = min(FIT_FRAMES, FIT_VALUES // facts["dim"]) / max(FRAME_RATE * seconds, 1)
    rng = np.random.default_rng(seed)
    sampled = []
    for _, frames in extract(clips):
        chosen = torch.from_numpy(rng.random(len(frames)) < share)
        sampled.append(frames[chosen.to(frames.device)].cpu())
    return KMeans.fit(torch.cat(sampled), clusters, seed, facts=facts)


def _write(
    folder: Path, kmeans: KMeans, labels: Iterable[tuple[str, Tensor]], *, facts: dict[str, Any], fingerprint: str
) -> None:
    """Write a folder of labels, which appears only once complete."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        counts = _write_units(part / "labels.u16", labels)
        index = {"format": FORMAT, "clusters": kmeans.clusters, "facts": facts, "made_of": fingerprint}
        text = json.dumps({**index, "keys": list(counts), "counts": list(counts.values())})
        (part / "index.json").write_text(text, encoding="utf-8")
        kmeans.save(part / "kmeans.safetensors")
        KMeansLabels.open(part).evaluate()
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_units(file: Path, labels: Iterable[tuple[str, Tensor]]) -> dict[str, int]:
    """Write concatenated labels, and return the number of frames of each clip."""
    counts = {}
    with file.open("wb") as stream:
        for key, units in labels:
            stream.write(units.cpu().numpy().astype("<u2").tobytes())
            counts[key] = len(units)
    return counts


def _frames(
    clips: list[Clip], *, features: Features, read: Callable[[Clip], Samples], workers: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield the key and frames of each clip, in order, while the next ones are being read."""
    left_out = []
    for clip, pending in prefetch(clips, read, workers):
        try:
            wav = pending.result()
        except READ_ERRORS as error:
            left_out.append(f"{clip.key} ({str(error).splitlines()[0]})")
            continue
        if len(wav) < RECEPTIVE_FIELD:
            left_out.append(f"{clip.key} (too short: {len(wav)} samples)")
            continue
        frames = features(torch.from_numpy(wav))
        if len(frames) != num_frames(len(wav)):
            raise ValueError(f"{clip.key} has {len(wav)} samples, but its features have {len(frames)} frames.")
        yield clip.key, frames
    log_skipped(left_out)
    if len(left_out) == len(clips):
        raise ValueError(f"no clip can be labelled; the first: {left_out[0] if left_out else 'there are none'}.")
