"""Training of a unit codec: codebook, frames of all clips, and from these prosody predictor and vocoder.

The folder of a training:

    frames/              frames of every clip, and their table
    book.safetensors     the codebook
    vocoder/             the vocoder's training (see `vocoder.training.trainer`)
    codec/               book.safetensors and vocoder/, for `UnitCodec.from_pretrained`
"""

import logging
import math
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pretrain.data.manifest import READ_ERRORS, Clip, decode, log_skipped, read_manifest
from pretrain.labels.kmeans import KMeans
from pretrain.labels.kmeans_labels import KMeansLabels
from ssl_vc.features.disentangled import MEL, DisentangledAnalysis, interpolated_log_f0
from ssl_vc.features.extractor import Extractor, FrameSpec
from ssl_vc.features.frame_files import frames_path, open_folder, write_frames, write_table
from ssl_vc.units.analyzer import Form, UnitAnalyzer, UnitFeatures, analyze, units_and_f0
from ssl_vc.units.codebook import FILE, Codebook, run_length_encode
from ssl_vc.units.f0_codes import f0_blocks, run_means
from ssl_vc.units.prosody import ProsodyPredictor
from vocoder.pitch import voiced_median
from vocoder.training.folders import check_replaceable, remove_written
from vocoder.training.recipe import TrainConfig

log = logging.getLogger(__name__)

UNIT_HIFIGAN_SHAPE = {"pitch": "hertz", "speaker_vector": MEL.bands}  # for frames of the form `numbers`
VOCODER_FILES = "config.json", "model.safetensors"
CODEC_FILES = FILE, *(f"vocoder/{name}" for name in VOCODER_FILES)
SEGMENT, BATCH = 100, 32  # runs and clips per training step of the prosody predictor
FRAMES_PER_HOUR = 180_000


@dataclass(frozen=True, kw_only=True)
class UnitsConfig:
    """Training settings of a unit codec.

    Attributes:
        clips: a folder of audio files, or a manifest (see `pretrain.data.manifest.read_manifest`).
        split: rows of the manifest to use.
        leave_out: prefixes of the keys of held-out clips.
        encoder: tiny, a folder, a .pt file or a hub id.
        layer: of the encoder; its own choice if None.
        clusters: number of units.
        labels: output of `ssl-vc label --of ENCODER --less-mean`, whose clusters become the units; fitted if empty.
        pitches: number of F0 codes.
        fit_hours: hours of randomly drawn clips that k-means is fitted on.
        soft: share of clips with soft units, from 0 to 1, so that the vocoder accepts them as well.
        prosody_steps: training steps of the prosody predictor.
        vocoder: settings of `vocoder.training.recipe.TrainConfig`, except clips and features.
        seed: of all randomness.
        device: auto, cpu, cuda, cuda:1 ... or mps.
    """

    clips: str = ""
    split: str | None = None
    leave_out: tuple[str, ...] = ()
    encoder: str = "tiny"
    layer: int | None = None
    clusters: int = 100
    labels: str = ""
    pitches: int = 20
    fit_hours: float = 3.0
    soft: float = 0.0
    prosody_steps: int = 2000
    vocoder: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, least, most in (("clusters", 2, 2**16), ("pitches", 3, 255), ("prosody_steps", 1, 10**9)):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; possible are {least} to {most}.")
        if not 0 <= self.soft <= 1:
            raise ValueError(f"soft is {self.soft}; it must be between 0 and 1.")
        if self.fit_hours <= 0:
            raise ValueError(f"fit_hours is {self.fit_hours}; it must be positive.")
        for name in {"clips", "split", "features"} & self.vocoder.keys():
            raise ValueError(f"vocoder.{name} is set; it is determined by the units.")


def extract_frames(config: UnitsConfig, folder: Path) -> Iterator[Clip]:
    """Fit the codebook and write the frames of all clips; yields each clip that is finished.

    What an earlier run has finished is kept.
    """
    listed = read_manifest(config.clips, config.split)
    clips = [clip for clip in listed if not clip.key.startswith(tuple(config.leave_out))]
    extractor = Extractor.from_pretrained(config.encoder, config.layer, device=config.device)
    form: Form = "numbers" if config.vocoder.get("vocoder") == "unit-hifigan" else "shares"
    analyzer = UnitAnalyzer(extractor, _codebook(config, folder, clips, extractor, form), form)
    done, failed = [], []
    for clip in clips:
        path = frames_path(folder / "frames", clip)
        if not path.is_file():
            try:
                features = analyzer.analyze(torch.from_numpy(decode(clip.path)))
            except READ_ERRORS as error:  # one bad file never stops the rest
                failed.append(f"{clip.key} ({str(error).splitlines()[0]})")
                continue
            soft = random.Random(f"{config.seed} {clip.key}").random() < config.soft
            units = analyzer.soft_units(features.content) if soft else analyzer.codebook.content(features.content)
            write_frames(path, analyzer.frames(units, features.f0, features.timbre), analyzer.feature_spec)
        done.append(clip)
        yield clip
    log_skipped(failed)
    if not done:
        raise ValueError(f"none of {len(clips)} clips can be decoded; the first: {failed[0]}.")
    write_table(folder / "frames", done)


def _codebook(config: UnitsConfig, folder: Path, clips: Sequence[Clip], extractor: Extractor, form: Form) -> Codebook:
    """Returns the codebook of an earlier run with these settings, or fits one, without prosody."""
    unrelated = ("vocoder", "prosody_steps", "device")
    settings = {name: value for name, value in vars(config).items() if name not in unrelated}
    same = open_folder(folder / "frames", {**settings, "form": form, "encoder": extractor.spec.encoder})
    if not (same and (folder / FILE).is_file()):
        _fit(config, clips, extractor).save(folder / FILE)
    return Codebook.load(folder / FILE)


def _fit(config: UnitsConfig, clips: Sequence[Clip], extractor: Extractor) -> Codebook:
    """Fit k-means of content and F0 on some clips."""
    rng, analysis = random.Random(config.seed), DisentangledAnalysis(extractor)
    features: list[UnitFeatures] = []
    for clip in rng.sample(clips, len(clips)):
        if sum(len(each.content) for each in features) >= config.fit_hours * FRAMES_PER_HOUR:
            break
        try:
            features.append(analyze(analysis, torch.from_numpy(decode(clip.path))))
        except READ_ERRORS:  # logged by `extract_frames`
            continue
    if not features:
        raise ValueError(f"none of {len(clips)} clips can be decoded, so no units can be fitted.")
    content = torch.cat([each.content for each in features])
    blocks = torch.cat([f0_blocks(each.f0) for each in features])
    log.info("fitting %d units on %.2f h", config.clusters, len(content) / FRAMES_PER_HOUR)
    spec = extractor.spec
    return Codebook(
        _clusters_of_labels(config, spec) if config.labels else KMeans.fit(content, config.clusters, config.seed),
        KMeans.fit(blocks, config.pitches, config.seed),
        ProsodyPredictor(config.clusters),
        torch.stack([each.timbre for each in features]).mean(0),
        {"encoder": spec.encoder, "layer": spec.layer, "normalized": spec.normalized},
    )


def _clusters_of_labels(config: UnitsConfig, spec: FrameSpec) -> KMeans:
    """Returns the clusters of k-means labels, which must be of the same content."""
    labels = KMeansLabels.open(config.labels)
    wanted = {"encoder": spec.encoder, "layer": spec.layer, "less_mean": True}
    found = {name: labels.facts.get(name) for name in wanted}
    if found != wanted or labels.clusters != config.clusters:
        raise ValueError(
            f"{config.labels} has {labels.clusters} clusters of {found}; "
            f"these units take {config.clusters} of {wanted}."
        )
    return labels.kmeans


def train_prosody(config: UnitsConfig, folder: Path) -> Iterator[float]:
    """Train the codebook's prosody predictor on the frames; yields the loss of each step."""
    codebook = Codebook.load(folder / FILE)
    runs = [_runs(path, codebook.clusters) for path in sorted((folder / "frames").rglob("*.safetensors"))]
    torch.manual_seed(config.seed)
    rng, prosody = random.Random(config.seed), ProsodyPredictor(codebook.clusters)
    optimizer = torch.optim.AdamW(prosody.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.prosody_steps)
    for _ in range(config.prosody_steps):
        rows = [_random_segment(rng.choice(runs), rng) for _ in range(BATCH)]
        columns = (pad_sequence(list(column), batch_first=True) for column in zip(*rows, strict=True))
        loss = prosody.loss(*columns)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield float(loss.detach())
    Codebook(codebook.content, codebook.pitch, prosody, codebook.timbre, codebook.encoder_spec).save(folder / FILE)


def _runs(path: Path, clusters: int) -> tuple[Tensor, ...]:
    """Returns units, durations, voicing and relative log F0 of a clip's runs, (runs,) each."""
    ids, f0 = units_and_f0(load_file(path)["frames"].float(), clusters)
    runs, lengths = run_length_encode(ids)
    log_f0 = interpolated_log_f0(f0) - math.log(voiced_median(f0))
    return runs, lengths, (run_means((f0 > 0).float(), lengths) > 0.5).float(), run_means(log_f0, lengths)


def _random_segment(runs: tuple[Tensor, ...], rng: random.Random) -> tuple[Tensor, ...]:
    start = rng.randrange(max(len(runs[0]) - SEGMENT, 0) + 1)
    return tuple(column[start : start + SEGMENT] for column in runs)


def vocoder_recipe(config: UnitsConfig, folder: Path) -> TrainConfig:
    """Returns the settings of the vocoder's training."""
    settings = {"vocoder": "vocos", **config.vocoder}
    if settings["vocoder"] == "unit-hifigan":
        settings["shape"] = {**UNIT_HIFIGAN_SHAPE, "units": config.clusters, **settings.get("shape", {})}
    try:
        return TrainConfig(**settings, features="frames", clips=str(folder / "frames" / "clips.tsv"))
    except TypeError as error:
        raise ValueError(f"vocoder has an unknown setting ({error}).") from None


def check_codec(folder: Path) -> None:
    """Refuse a training whose codec would replace somebody's files."""
    check_replaceable(folder / "codec", CODEC_FILES)


def export_codec(folder: Path) -> Path:
    """Copy codebook and vocoder into the codec's folder, atomically; returns the folder."""
    codec, new = folder / "codec", folder / ".codec"
    remove_written(new, CODEC_FILES)
    (new / "vocoder").mkdir(parents=True)
    for name in VOCODER_FILES:
        shutil.copy(folder / "vocoder" / "model" / name, new / "vocoder")
    shutil.copy(folder / FILE, new)
    remove_written(codec, CODEC_FILES)
    return new.rename(codec)
