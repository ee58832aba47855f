"""Choose the matching layer of an encoder: each layer is probed, and its frames are converted.

Cepstra and log-mel spectra serve as baselines. They are standardised before conversion, as their cosines mean little
otherwise; layers are used unchanged, as in kNN-VC.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pretrain.data.manifest import Clip, read_manifest
from pretrain.encoder import SpeechEncoder
from pretrain.labels.align import AlignmentLabels, PhoneAlignments, align
from pretrain.probing.probe import ProbeConfig, phone_accuracy, speaker_accuracy
from pretrain.probing.probe_features import (
    BANDS,
    ProbeFeatures,
    Representation,
    baseline_representations,
    extract_probe_features,
    layer_name,
    layer_representations,
    sample_clips,
)
from ssl_vc.device import choose_device
from ssl_vc.evaluate.parallel_recall import ParallelClip, ParallelRecall, parallel_recall
from ssl_vc.evaluate.self_conversion import LabelledClip, self_conversion
from ssl_vc.features.extractor import Extractor
from ssl_vc.hub.registry import load_encoder

log = logging.getLogger(__name__)

MATCHED = "matched"  # frames of the extractor, for encoders whose frames are more than a layer

Progress = Callable[[Sequence[Clip], str], Iterable[Clip]]


class LayerResult(NamedTuple):
    """Results of one feature. Accuracies are in percent; None where there are too few clips or speakers.

    Attributes:
        features: name of a baseline, or `layer 3`; for an encoder with cepstra also `6-mean` (its matching layer less
            each clip's mean), `matched` (that and the cepstra), and for comparison `mel-mean`.
        layer: its number; None for anything else.
        dim: dimension of the frames.
        phones: phone accuracy of a linear probe on speech frames of unseen speakers.
        phones_with_silence: the same on all frames.
        speakers: speaker accuracy of a linear probe on clips; lower means more speaker-independent.
        speakers_by_frame: the same on single frames.
        kept: speech frames whose phone is preserved by kNN conversion to the same speaker.
        kept_across: the same to another speaker.
        distance: log-mel distance of kNN conversion to the same speaker, in dB.
        recall: speech frames of parallel clips whose nearest frame is the true one; None without parallel clips.
        same_third: those whose nearest frame, without the sentence itself, is of the same third of the same phone.
        seconds: time taken.
    """

    features: str
    layer: int | None
    dim: int
    phones: float
    phones_with_silence: float
    speakers: float | None
    speakers_by_frame: float | None
    kept: float | None
    kept_across: float | None
    distance: float | None
    recall: float | None
    same_third: float | None
    seconds: float


class ProbeData(NamedTuple):
    """Features and labels for training and testing the probes.

    Attributes:
        names: of the features, with the number of those that are layers.
        symbols: number of phones, silence included.
        train: of the training speakers.
        test: of the test speakers.
        parallel: of parallel clips, whose phones are divided into thirds; None without them.
    """

    names: dict[str, int | None]
    symbols: int
    train: ProbeFeatures
    test: ProbeFeatures
    parallel: ProbeFeatures | None = None


def prepare_probe_data(config: ProbeConfig, folder: Path, progress: Progress = lambda clips, _: clips) -> ProbeData:
    """Extract the features of the clips of a config.

    Args:
        config: clips, encoder and layers.
        folder: for the features, 2 bytes per number.
        progress: iterates over clips under a label, such as tqdm.
    """
    encoder = load_encoder(config.encoder).eval().requires_grad_(False).to(choose_device(config.device))
    layers = config.layers or list(range(encoder.config.depth + 1))
    representations = [baseline_representations, layer_representations(encoder, layers)]
    if encoder.config.cepstra:
        representations.append(_matched_frames(encoder, config.device))
    chosen, symbols = {}, 0
    for split, minutes in ((config.train_split, config.train_minutes), (config.test_split, config.test_minutes)):
        clips = read_manifest(config.clips, split)
        phones = _phones(Path(config.phones) / split, clips, minutes, config.seed)
        known = [clip for clip in clips if clip.key in phones]
        chosen[split] = sample_clips(known, minutes, config.seed), phones
        symbols = len(phones.symbols)
    speakers = [{clip.speaker for clip in clips} - {""} for clips, _ in chosen.values()]
    twice = speakers[0] & speakers[1]
    if twice:
        raise ValueError(f"the speaker {min(twice)!r} is in both splits; probes must be tested on unseen speakers.")
    parts = []
    for split, (clips, phones) in chosen.items():
        part = extract_probe_features(progress(clips, split), phones, representations, folder / split)
        count = len({clip.speaker for clip in part.clips})
        log.info("%s: %.1f minutes in %d clips of %d speakers", split, sum(part.counts) / 3000, len(part.clips), count)
        parts.append(part)
    if config.parallel:
        clips = read_manifest(config.parallel)
        phones = _phones(Path(config.phones) / "parallel", clips, math.inf, config.seed)
        known = [clip for clip in clips if clip.key in phones and clip.sentence]
        thirds = AlignmentLabels(phones, 3)
        parts.append(extract_probe_features(progress(known, "parallel"), thirds, representations, folder / "parallel"))
    names = dict.fromkeys(parts[0].dims) | {layer_name(layer): layer for layer in layers}
    return ProbeData(names, symbols, *parts)


def _matched_frames(encoder: SpeechEncoder, device: str) -> Representation:
    """Frames as they are matched, without and with cepstra, and mean-normalised spectra."""
    extractor = Extractor(encoder, device=device)

    def represent(wav: Tensor) -> dict[str, Tensor]:
        frames, mel = extractor(wav), baseline_representations(wav)["log-mel"]
        centred = frames[:, : encoder.config.dim]
        return {"mel-mean": mel - mel.mean(0), f"{extractor.spec.layer}-mean": centred, MATCHED: frames}

    return represent


def _phones(folder: Path, clips: Sequence[Clip], minutes: float, seed: int) -> PhoneAlignments:
    """Open a folder of alignments, or align as many clips as needed."""
    if folder.exists():
        phones = PhoneAlignments.open(folder)
        known = sum(clip.seconds for clip in clips if clip.key in phones) / 60
        if not known:
            raise ValueError(f"{folder} holds no alignment of these clips; use another folder, or remove it.")
        if known < minutes < math.inf:
            log.warning("only %.1f of %g minutes are aligned in %s; remove it to align more", known, minutes, folder)
        return phones
    log.info("aligning phones into %s", folder)
    transcribed = [clip for clip in clips if clip.text and clip.language[:2].lower() in ("", "en")]
    return align(sample_clips(transcribed, minutes, seed), folder)


def probe_layers(data: ProbeData, *, device: str = "auto", seed: int = 0) -> Iterator[LayerResult]:
    """Yield the results of one feature after another."""
    chosen = choose_device(device)
    train, test = data.train, data.test
    mel = test.frames("log-mel")[:, :BANDS].to(chosen)
    for name, layer in data.names.items():
        start = time.perf_counter()
        frames = [part.frames(name).to(chosen) for part in (train, test)]
        labels = [part.phones.to(chosen) for part in (train, test)]
        accuracy = phone_accuracy((frames[0], labels[0]), (frames[1], labels[1]), data.symbols, seed=seed)
        speakers = speaker_accuracy(frames[1], test.counts, test.speakers, seed=seed)
        recall = None if data.parallel is None else _parallel_recall(data.parallel, name, layer)
        matched = _for_matching(frames[1], name, layer)
        parts = (each.split(test.counts) for each in (matched, labels[1], mel))
        names = [clip.speaker for clip in test.clips]
        found = self_conversion([LabelledClip(*each) for each in zip(names, *parts, strict=True)])
        yield LayerResult(
            features=name,
            layer=layer,
            dim=test.dims[name],
            phones=_percent(accuracy.speech),
            phones_with_silence=_percent(accuracy.all_frames),
            speakers=None if speakers is None else _percent(speakers.clips),
            speakers_by_frame=None if speakers is None else _percent(speakers.frames),
            kept=None if found.kept is None else _percent(found.kept),
            kept_across=None if found.kept_across is None else _percent(found.kept_across),
            distance=None if found.distance is None else round(found.distance, 3),
            recall=None if recall is None else _percent(recall.found),
            same_third=None if recall is None else _percent(recall.same_phone),
            seconds=round(time.perf_counter() - start, 2),
        )


def recommend_layer(rows: Iterable[LayerResult]) -> LayerResult | None:
    """Return the layer that preserves most phones across speakers; None where that is unknown."""
    layers = [row for row in rows if row.layer is not None and row.kept_across is not None]
    return max(layers, key=lambda row: row.kept_across or 0.0, default=None)


def _parallel_recall(parallel: ProbeFeatures, name: str, layer: int | None) -> ParallelRecall | None:
    frames = _for_matching(parallel.frames(name), name, layer)
    parts = (each.split(parallel.counts) for each in (frames, parallel.phones))
    return parallel_recall(
        [ParallelClip(clip.sentence, clip.speaker, *each) for clip, *each in zip(parallel.clips, *parts, strict=True)]
    )


def _for_matching(frames: Tensor, name: str, layer: int | None) -> Tensor:
    return frames if layer is not None or name == MATCHED else _standardised(frames)


def _percent(share: float) -> float:
    return round(100 * share, 2)


def _standardised(frames: Tensor) -> Tensor:
    return (frames - frames.mean(0)) / frames.std(0).clamp(min=torch.finfo(torch.float32).eps)
