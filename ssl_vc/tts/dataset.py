"""Dataset of a text model: rows of frames and symbols, extracted from recordings, transcripts and a dictionary."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from pretrain.data.manifest import READ_ERRORS, Clip, decode, log_skipped, read_manifest
from pretrain.labels.tokenizers import PhonemeTokenizer
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.features.frame_files import frames_path, open_folder
from ssl_vc.files import replacing, safe_filename
from ssl_vc.tts import g2p
from ssl_vc.tts.recipe import TTSConfig
from ssl_vc.tts.row_codec import RowCodec, Speaker
from ssl_vc.tts.symbols import SymbolSequence, to_symbols
from ssl_vc.tts.text_normalization import normalize_text

log = logging.getLogger(__name__)

STATISTICS_CLIPS = 200  # for a speaker's median F0 and timbre
HELD_OUT = 0.02  # of the dictionary


class Example(NamedTuple):
    """A training example.

    Attributes:
        sentence: its symbols.
        path: file of its rows (frames, dim).
        speaker: speaker id.
        frames: number of frames.
    """

    sentence: SymbolSequence
    path: Path
    speaker: int
    frames: int


def train_g2p(config: TTSConfig, folder: Path) -> Iterator[float]:
    """Train the G2P model unless there is one; yields the loss of each step."""
    file = folder / "letters.safetensors"
    if config.g2p or file.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    dictionary = PhonemeTokenizer(config.dictionary or None).words()
    training = g2p.train(dictionary, steps=config.g2p_steps, held_out=HELD_OUT, seed=config.seed)
    model, first = next(training)  # the same model at every step
    yield first
    yield from (loss for _, loss in training)
    words, phones = g2p.evaluate(model, g2p.split_dictionary(dictionary, HELD_OUT, config.seed)[1])
    log.info("G2P on held-out words: word error rate %.1f %%, phone error rate %.1f %%", 100 * words, 100 * phones)
    model.store_exceptions(g2p.split_dictionary(dictionary, 0, config.seed)[0])
    log.info("%d words of the dictionary are stored as exceptions", len(model.exceptions))
    model.save(file)


def load_g2p(config: TTSConfig, folder: Path) -> g2p.G2PModel:
    """Returns the G2P model of a training."""
    return g2p.G2PModel.load(config.g2p or folder / "letters.safetensors")


def rows_folder(folder: Path) -> Path:
    """Returns the folder of a training's rows, which earlier versions called `said`."""
    former = folder / "said"
    return former if former.is_dir() else folder / "rows"


def extract_rows(config: TTSConfig, folder: Path) -> Iterator[Clip]:
    """Write the rows of all clips and the speakers' statistics; yields each clip that is finished."""
    clips = _select_clips(config)
    converter = VoiceConverter.from_pretrained(config.model, device=config.device)
    spec, reads = converter.extractor.spec, dict(converter.analysis.feature_spec)
    rows, codec = rows_folder(folder), RowCodec(spec, reads)
    open_folder(rows, {"clips": len(clips), "reads": reads, "spec": asdict(spec)})
    failed: list[str] = []
    by_speaker: dict[str, list[Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    for number, (name, theirs) in enumerate(sorted(by_speaker.items())):
        frames = _analyze(converter, [clip for clip in theirs if not frames_path(rows, clip).is_file()], failed)
        statistics = rows / f"{number:03d}-{safe_filename(name or 'somebody')}.json"
        first = [] if statistics.is_file() else list(islice(frames, STATISTICS_CLIPS))
        if first:
            _write_speaker(statistics, codec.speaker(name, [vocoder_frames for _, _, vocoder_frames in first]))
        if not statistics.is_file():
            continue  # none of this speaker's clips can be decoded
        speaker = _read_speaker(statistics)
        for clip, query_frames, vocoder_frames in chain(first, frames):
            path = frames_path(rows, clip)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                row = codec.encode(query_frames, vocoder_frames, speaker)
                part.write_bytes(save({"rows": row.half().contiguous()}))
            yield clip
    log_skipped(failed)


def load_dataset(config: TTSConfig, folder: Path, model: g2p.G2PModel) -> tuple[list[Speaker], list[Example]]:
    """Returns speakers and training examples; words in the dictionary are pronounced by it, others by the model."""
    dictionary = {} if config.g2p else PhonemeTokenizer(config.dictionary or None).words()

    def phonemize(words: Sequence[str]) -> list[list[str]]:
        predicted = iter(model.phonemize([word for word in words if word not in dictionary]))
        return [list(dictionary[word]) if word in dictionary else next(predicted) for word in words]

    rows = rows_folder(folder)
    speakers = [_read_speaker(path) for path in sorted(rows.glob("[0-9]*-*.json"))]
    speaker_ids = {speaker.name: number for number, speaker in enumerate(speakers)}
    examples = []
    for clip in _select_clips(config):
        path = frames_path(rows, clip)
        if path.is_file():
            with safe_open(path, "pt") as file:
                frames = file.get_slice("rows").get_shape()[0]
            sentence = to_symbols(normalize_text(clip.text), phonemize)
            if len(sentence.symbols) <= frames:
                examples.append(Example(sentence, path, speaker_ids[clip.speaker], frames))
    if not examples:
        raise ValueError(f"{rows} holds no training examples.")
    return speakers, examples


def _select_clips(config: TTSConfig) -> list[Clip]:
    """Returns the clips to train on."""
    clips = [
        clip
        for clip in read_manifest(config.clips, config.split)
        if clip.text
        and clip.seconds <= config.longest
        and (not config.speakers or clip.speaker in config.speakers)
        and not clip.key.startswith(tuple(config.leave_out))
    ]
    if not clips:
        whose = f" by {', '.join(config.speakers)}" if config.speakers else ""
        raise ValueError(f"{config.clips} has no clips with transcripts{whose}.")
    return clips


def _analyze(
    converter: VoiceConverter, clips: Sequence[Clip], failed: list[str]
) -> Iterator[tuple[Clip, Tensor, Tensor]]:
    """Yield clips with their query and vocoder frames; those that cannot be decoded go to `failed`."""
    for clip in clips:
        try:
            source = converter.encode(torch.from_numpy(decode(clip.path)))
            query, vocoder = (torch.cat(list(part)).cpu() for part in (source.query_frames(), source.vocoder_frames()))
        except READ_ERRORS as error:  # one bad file never stops the rest
            failed.append(f"{clip.key} ({str(error).splitlines()[0]})")
            continue
        yield clip, query, vocoder


def _write_speaker(path: Path, speaker: Speaker) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps([speaker.name, speaker.median_f0, speaker.timbre.tolist()]), encoding="utf-8")


def _read_speaker(path: Path) -> Speaker:
    name, median_f0, timbre = json.loads(path.read_text(encoding="utf-8"))
    return Speaker(name, median_f0, torch.tensor(timbre))
