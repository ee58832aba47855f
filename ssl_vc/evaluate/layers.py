"""Which layer of an encoder to match: every one is probed, and its frames are converted.

Cepstra and log-mel spectra are measured beside the layers. Their numbers are first brought to one scale for the
conversion, since a cosine means little for them otherwise; those of the layers stay as kNN-VC takes them.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pretrain.data.manifest import Clip, read_manifest
from pretrain.encoder import SpeechEncoder
from pretrain.labels.align import Phones, align
from pretrain.probing.heard import BANDS, Heard, Represent, baselines, choose_clips, hear, layer_name, layers_of
from pretrain.probing.probe import ProbeConfig, phone_accuracy, speaker_accuracy
from ssl_vc.device import choose_device
from ssl_vc.evaluate.self_conversion import Spoken, self_conversion
from ssl_vc.features.extractor import Extractor
from ssl_vc.hub.registry import load_encoder

log = logging.getLogger(__name__)

MATCHED = "matched"  # what the frames are called that an encoder's extractor gives, where they are more than a layer's

Watch = Callable[[Sequence[Clip], str], Iterable[Clip]]


class Row(NamedTuple):
    """What was found of one kind of frames. Shares are in percent; None is what these clips cannot tell.

    Attributes:
        features: what they are: a baseline's name, `layer 3`; of an encoder with cepstra also `6-mean` (its matching
            layer less each clip's mean), `matched` (that and the cepstra), and for comparison `mel-mean`.
        layer: its number; None of a baseline.
        dim: numbers in a frame.
        phones: of speech frames whose phone a linear probe names, of speakers that it was not trained on.
        phones_with_silence: the same of all frames.
        speakers: of clips whose speaker a linear probe names; the less, the more the frames forget who speaks.
        speakers_by_frame: of single frames.
        kept: of speech frames whose phone is kept in kNN conversion to the same speaker's other clips.
        kept_across: the same, to another speaker.
        distance: of the log-mel energies in conversion to the same speaker, in dB.
        seconds: that measuring took.
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
    seconds: float


class Material(NamedTuple):
    """What probes are trained on and tested on, heard once by every kind of frames.

    Attributes:
        names: of the kinds of frames, with the number of those that are layers.
        symbols: how many phones there are, silence with them.
        train: of some speakers.
        test: of others.
    """

    names: dict[str, int | None]
    symbols: int
    train: Heard
    test: Heard


def hear_material(config: ProbeConfig, folder: Path, watch: Watch = lambda clips, _: clips) -> Material:
    """Hear the clips that a config asks for.

    Args:
        config: which clips, encoder and layers.
        folder: for the frames, 2 bytes a number.
        watch: gives the clips again while they are heard, for a progress bar; it is told their split.
    """
    encoder = load_encoder(config.encoder).eval().requires_grad_(False).to(choose_device(config.device))
    layers = config.layers or list(range(encoder.config.depth + 1))
    represent = [baselines, layers_of(encoder, layers)]
    if encoder.config.cepstra:
        represent.append(_as_matched(encoder, config.device))
    chosen, symbols = {}, 0
    for split, minutes in ((config.train_split, config.train_minutes), (config.test_split, config.test_minutes)):
        clips = read_manifest(config.clips, split)
        phones = _phones(Path(config.phones) / split, clips, minutes, config.seed)
        known = [clip for clip in clips if clip.key in phones]
        chosen[split] = choose_clips(known, minutes, config.seed), phones
        symbols = len(phones.symbols)
    speakers = [{clip.speaker for clip in clips} - {""} for clips, _ in chosen.values()]
    twice = speakers[0] & speakers[1]
    if twice:
        raise ValueError(f"the speaker {min(twice)!r} is in both splits; probes are tested on speakers not heard yet.")
    parts = []
    for split, (clips, phones) in chosen.items():
        heard = hear(watch(clips, split), phones, represent, folder / split)
        people = len({clip.speaker for clip in heard.clips})
        log.info(
            "%s: %.1f minutes in %d clips of %d speakers", split, sum(heard.counts) / 3000, len(heard.clips), people
        )
        parts.append(heard)
    names = dict.fromkeys(parts[0].dims) | {layer_name(layer): layer for layer in layers}
    return Material(names, symbols, *parts)


def _as_matched(encoder: SpeechEncoder, device: str) -> Represent:
    """Give what makes the frames as they are matched, without and with cepstra, and spectra less their mean as well."""
    extractor = Extractor(encoder, device=device)

    def represent(wav: Tensor) -> dict[str, Tensor]:
        frames, mel = extractor(wav), baselines(wav)["log-mel"]
        centred = frames[:, : encoder.config.dim]
        return {"mel-mean": mel - mel.mean(0), f"{extractor.spec.layer}-mean": centred, MATCHED: frames}

    return represent


def _phones(folder: Path, clips: Sequence[Clip], minutes: float, seed: int) -> Phones:
    """Open a folder of alignments, or make them of as many clips as are wanted."""
    if folder.exists():
        phones = Phones.open(folder)
        known = sum(clip.seconds for clip in clips if clip.key in phones) / 60
        if not known:
            raise ValueError(f"{folder} holds no alignment of these clips; give another folder, or remove it.")
        if known < minutes:
            log.warning("of %g minutes, only %.1f are aligned in %s; remove it to align more", minutes, known, folder)
        return phones
    log.info("aligning phones into %s", folder)
    said = [clip for clip in clips if clip.text and clip.language[:2].lower() in ("", "en")]
    return align(choose_clips(said, minutes, seed), folder)


def measure(material: Material, *, device: str = "auto", seed: int = 0) -> Iterator[Row]:
    """Measure one kind of frames after another."""
    chosen = choose_device(device)
    train, test = material.train, material.test
    mel = test.frames("log-mel")[:, :BANDS].to(chosen)
    for name, layer in material.names.items():
        start = time.perf_counter()
        here = [part.frames(name).to(chosen) for part in (train, test)]
        labels = [part.phones.to(chosen) for part in (train, test)]
        named = phone_accuracy((here[0], labels[0]), (here[1], labels[1]), material.symbols, seed=seed)
        speakers = speaker_accuracy(here[1], test.counts, test.speakers, seed=seed)
        frames = here[1] if layer is not None or name == MATCHED else _scaled(here[1])
        parts = (each.split(test.counts) for each in (frames, labels[1], mel))
        people = [clip.speaker for clip in test.clips]
        found = self_conversion([Spoken(*each) for each in zip(people, *parts, strict=True)])
        yield Row(
            features=name,
            layer=layer,
            dim=test.dims[name],
            phones=_percent(named.speech),
            phones_with_silence=_percent(named.every),
            speakers=None if speakers is None else _percent(speakers.clips),
            speakers_by_frame=None if speakers is None else _percent(speakers.frames),
            kept=None if found.kept is None else _percent(found.kept),
            kept_across=None if found.kept_across is None else _percent(found.kept_across),
            distance=None if found.distance is None else round(found.distance, 3),
            seconds=round(time.perf_counter() - start, 2),
        )


def recommended(rows: Iterable[Row]) -> Row | None:
    """Choose the layer that keeps most phones from one speaker to another; None where no layer was converted so."""
    layers = [row for row in rows if row.layer is not None and row.kept_across is not None]
    return max(layers, key=lambda row: row.kept_across or 0.0, default=None)


def _percent(share: float) -> float:
    return round(100 * share, 2)


def _scaled(frames: Tensor) -> Tensor:
    return (frames - frames.mean(0)) / frames.std(0).clamp(min=torch.finfo(torch.float32).eps)
