"""How units are learned: centres from some clips, frames of units of all clips, and from those prosody and vocoder.

The folder of a training:

    frames/      units of every clip, and a table of them      vocoder/   the vocoder's training (see
    `vocoder.training.trainer`) book.safetensors   the centres
    codec/       book.safetensors and vocoder/, for `UnitCodec.from_pretrained`
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

from pretrain.data.manifest import BROKEN, Clip, decode, name_left_out, read_manifest
from pretrain.labels.kmeans import KMeans
from pretrain.labels.labels import Labels
from ssl_vc.features.disentangled import MEL, Speech, through_unvoiced
from ssl_vc.features.extractor import Extractor, FrameSpec
from ssl_vc.features.frame_files import begin, file_of, write_frames, write_table
from ssl_vc.units.book import Book, runs_of
from ssl_vc.units.melody import blocks, run_means
from ssl_vc.units.prosody import Prosody
from ssl_vc.units.speech import Form, Heard, UnitSpeech, hear, told_by
from vocoder.pitch import level_of
from vocoder.training.recipe import TrainConfig

log = logging.getLogger(__name__)

NUMBERED = {"pitch": "hertz", "speaker_vector": MEL.bands}  # how a unit HiFi-GAN reads its frames
RUNS, BATCH = 100, 32  # that prosody learns from in a step


@dataclass(frozen=True)
class UnitsConfig:
    """How units are learned.

    Attributes:
        clips: a folder of sound files, or a table of them (see `pretrain.data.manifest.read_manifest`).
        split: which rows of that table.
        leave_out: clips whose key begins so are left out.
        encoder: whose content is clustered: tiny, a folder, a .pt file or a hub id.
        layer: of the encoder; its own choice if None.
        clusters: how many units.
        labels: what `ssl-vc label --of ENCODER --less-mean` made, whose clusters are the units; fitted if empty.
        pitches: how many codes of pitch.
        fit_hours: of clips, by lot, that the centres are fitted on.
        soft: how many of the clips have soft units, 0 to 1, so that the vocoder understands them as well.
        prosody_steps: of what guesses lengths and pitch.
        vocoder: settings of `vocoder.training.recipe.TrainConfig`, but for clips and features.
        seed: of all that is random.
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
            raise ValueError(f"soft is {self.soft}; it is a share, from 0 to 1.")
        if self.fit_hours <= 0:
            raise ValueError(f"fit_hours is {self.fit_hours}; it must be positive.")
        for name in {"clips", "split", "features"} & self.vocoder.keys():
            raise ValueError(f"vocoder.{name} is set; it follows from the units.")


def make_frames(config: UnitsConfig, folder: Path) -> Iterator[Clip]:
    """Make the book, but for its prosody, and the frames of all clips; gives each clip that is done.

    What is there of an earlier run is left as it is.
    """
    listed = read_manifest(config.clips, config.split)
    clips = [clip for clip in listed if not clip.key.startswith(tuple(config.leave_out))]
    extractor = Extractor.from_pretrained(config.encoder, config.layer, device=config.device)
    form: Form = "numbers" if config.vocoder.get("vocoder") == "unit-hifigan" else "shares"
    book_file = folder / "book.safetensors"
    make = {name: fact for name, fact in vars(config).items() if name not in ("vocoder", "prosody_steps", "device")}
    make["form"] = form
    kept = begin(folder / "frames", {**make, "encoder": extractor.spec.encoder})
    if not (kept and book_file.is_file()):
        _fit(config, clips, extractor).save(book_file)
    speech = UnitSpeech(extractor, Book.load(book_file), form)
    done, left_out = [], []
    for clip in clips:
        path = file_of(folder / "frames", clip)
        if not path.is_file():
            try:
                heard = speech.hear(torch.from_numpy(decode(clip.path)))
            except BROKEN as error:  # one bad file never stops the rest
                left_out.append(f"{clip.key} ({str(error).splitlines()[0]})")
                continue
            soft = random.Random(f"{config.seed} {clip.key}").random() < config.soft
            units = speech.shares(heard.content) if soft else speech.book.content(heard.content)
            write_frames(path, speech.frames(units, heard.pitch, heard.timbre), speech.made_by)
        done.append(clip)
        yield clip
    name_left_out(left_out)
    if not done:
        raise ValueError(f"none of {len(clips)} clips can be heard; the first: {left_out[0]}.")
    write_table(folder / "frames", done)


def _fit(config: UnitsConfig, clips: Sequence[Clip], extractor: Extractor) -> Book:
    """Fit the centres of content and pitch on some clips."""
    chance, speech = random.Random(config.seed), Speech(extractor)
    heard: list[Heard] = []
    for clip in chance.sample(clips, len(clips)):
        if sum(len(each.content) for each in heard) >= config.fit_hours * 180_000:
            break
        try:
            heard.append(hear(speech, torch.from_numpy(decode(clip.path))))
        except BROKEN:  # it is named later
            continue
    if not heard:
        raise ValueError(f"none of {len(clips)} clips can be heard, so there is nothing to make units of.")
    content = torch.cat([each.content for each in heard])
    melodies = torch.cat([blocks(each.pitch) for each in heard])
    log.info("fitting %d units on %.2f h", config.clusters, len(content) / 180_000)
    spec = extractor.spec
    return Book(
        _labelled(config, spec) if config.labels else KMeans.fit(content, config.clusters, config.seed),
        KMeans.fit(melodies, config.pitches, config.seed),
        Prosody(config.clusters),
        torch.stack([each.timbre for each in heard]).mean(0),
        {"encoder": spec.encoder, "layer": spec.layer, "normalized": spec.normalized},
    )


def _labelled(config: UnitsConfig, spec: FrameSpec) -> KMeans:
    """Give the clusters of labels, which must be of the same content."""
    labels = Labels.open(config.labels)
    wanted = {"encoder": spec.encoder, "layer": spec.layer, "less_mean": True}
    made = {name: labels.facts.get(name) for name in wanted}
    if made != wanted or labels.clusters != config.clusters:
        raise ValueError(
            f"{config.labels} has {labels.clusters} clusters of {made}; these units take {config.clusters} of {wanted}."
        )
    return labels.kmeans


def learn_prosody(config: UnitsConfig, folder: Path) -> Iterator[float]:
    """Learn lengths and pitch of units from the frames, put that into the book; gives the loss of each step."""
    book = Book.load(folder / "book.safetensors")
    runs = [_runs(path, book.clusters) for path in sorted((folder / "frames").rglob("*.safetensors"))]
    torch.manual_seed(config.seed)
    chance, prosody = random.Random(config.seed), Prosody(book.clusters)
    optimizer = torch.optim.AdamW(prosody.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.prosody_steps)
    for _ in range(config.prosody_steps):
        rows = [_cut(chance.choice(runs), chance) for _ in range(BATCH)]
        columns = (pad_sequence(list(column), batch_first=True) for column in zip(*rows, strict=True))
        loss = prosody.loss(*columns)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield float(loss.detach())
    Book(book.content, book.pitch, prosody, book.timbre, book.facts).save(folder / "book.safetensors")


def _runs(path: Path, clusters: int) -> tuple[Tensor, ...]:
    """Give a clip's runs: units, lengths, whether voiced, and log F0 beside the median (runs,)."""
    ids, pitch = told_by(load_file(path)["frames"].float(), clusters)
    runs, lengths = runs_of(ids)
    height = through_unvoiced(pitch) - math.log(level_of(pitch))
    return runs, lengths, (run_means((pitch > 0).float(), lengths) > 0.5).float(), run_means(height, lengths)


def _cut(runs: tuple[Tensor, ...], chance: random.Random) -> tuple[Tensor, ...]:
    start = chance.randrange(max(len(runs[0]) - RUNS, 0) + 1)
    return tuple(column[start : start + RUNS] for column in runs)


def vocoder_recipe(config: UnitsConfig, folder: Path) -> TrainConfig:
    """Give the settings of the vocoder's training."""
    settings = {"vocoder": "vocos", **config.vocoder}
    if settings["vocoder"] == "unit-hifigan":
        settings["shape"] = {**NUMBERED, "units": config.clusters, **settings.get("shape", {})}
    try:
        return TrainConfig(**settings, features="frames", clips=str(folder / "frames" / "clips.tsv"))
    except TypeError as error:
        raise ValueError(f"vocoder has a setting that does not exist ({error}).") from None


def gather(folder: Path) -> Path:
    """Put what a codec needs beside each other, whole or not at all; give the folder."""
    codec, new = folder / "codec", folder / ".codec"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(folder / "vocoder" / "model", new / "vocoder", ignore=shutil.ignore_patterns("README.md"))
    shutil.copy(folder / "book.safetensors", new)
    shutil.rmtree(codec, ignore_errors=True)
    return new.rename(codec)
