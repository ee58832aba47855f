"""Lessons: what the text model learns from, made of recordings, their texts, and a pronouncing dictionary."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pretrain.data.manifest import BROKEN, Clip, decode, name_left_out, read_manifest
from pretrain.labels.pronounce import Phonemes
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.features.frame_files import begin, file_of
from ssl_vc.files import harmless, replacing
from ssl_vc.tts.frames import Said, Speaker
from ssl_vc.tts.letters import Letters, judge, learn, parted
from ssl_vc.tts.recipe import TTSConfig
from ssl_vc.tts.symbols import Sentence, sentence_of
from ssl_vc.tts.text import spoken

log = logging.getLogger(__name__)

KNOWN = 200  # clips that tell what a speaker is like


class Lesson(NamedTuple):
    """A clip to learn from.

    Attributes:
        sentence: what is said.
        path: of its rows (frames, dim).
        speaker: who says it, by number.
        frames: how many.
    """

    sentence: Sentence
    path: Path
    speaker: int
    frames: int


def learn_letters(config: TTSConfig, folder: Path) -> Iterator[float]:
    """Learn to read words, unless that was done; gives the loss of each step."""
    file = folder / "letters.safetensors"
    if config.letters or file.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    dictionary = Phonemes(config.dictionary or None).words()
    learning = learn(dictionary, steps=config.letters_steps, seed=config.seed)
    letters, first = next(learning)  # the same network from step to step
    yield first
    for _, loss in learning:
        yield loss
    words, phones = judge(letters, parted(dictionary, 0.02, config.seed)[1])
    log.info("of other words %.1f %% are read wrongly, %.1f %% of their phones", 100 * words, 100 * phones)
    letters.remember(parted(dictionary, 0, config.seed)[0])
    log.info("%d words of the dictionary are read otherwise, and kept", len(letters.exceptions))
    letters.save(file)


def read_letters(config: TTSConfig, folder: Path) -> Letters:
    """Give what `learn_letters` learned."""
    return Letters.load(config.letters or folder / "letters.safetensors")


def make_said(config: TTSConfig, folder: Path) -> Iterator[Clip]:
    """Make the rows of all clips, and say what the speakers are like; gives each clip that is done."""
    clips = _chosen(config)
    converter = VoiceConverter.from_pretrained(config.model, device=config.device)
    said = Said(converter.extractor.spec, converter.analysis.made_by)
    make = {"clips": len(clips), "reads": dict(converter.analysis.made_by), "spec": asdict(converter.extractor.spec)}
    begin(folder / "said", make)
    left_out: list[str] = []
    by_speaker: dict[str, list[Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    for number, (name, several) in enumerate(sorted(by_speaker.items())):
        note, waiting = folder / "said" / f"{number:03d}-{harmless(name or 'somebody')}.json", []
        heard = _heard(converter, [clip for clip in several if not file_of(folder / "said", clip).is_file()], left_out)
        if not note.is_file():
            waiting = list(islice(heard, KNOWN))
            if not waiting:
                continue  # nothing of this speaker can be heard
            found = said.speaker(name, [own for _, _, own in waiting])
            with replacing(note) as part:
                part.write_text(json.dumps([found.name, found.level, found.timbre.tolist()]), encoding="utf-8")
        speaker = _speaker(note)
        for clip, matched, own in chain(waiting, heard):
            path = file_of(folder / "said", clip)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                save_file({"rows": said.pack(matched, own, speaker).half().contiguous()}, part)
            yield clip
    name_left_out(left_out)


def _heard(
    converter: VoiceConverter, clips: Sequence[Clip], left_out: list[str]
) -> Iterator[tuple[Clip, Tensor, Tensor]]:
    """Give the frames of clips, those that are matched and those that are spoken; adds what cannot be heard."""
    for clip in clips:
        try:
            source = converter.encode(torch.from_numpy(decode(clip.path)))
            matched, own = (torch.cat(list(part)).cpu() for part in (source.matched(), source.spoken()))
        except BROKEN as error:  # one bad file never stops the rest
            left_out.append(f"{clip.key} ({str(error).splitlines()[0]})")
            continue
        yield clip, matched, own


def _chosen(config: TTSConfig) -> list[Clip]:
    """Give the clips that are learned from."""
    clips = [
        clip
        for clip in read_manifest(config.clips, config.split)
        if clip.text
        and clip.seconds <= config.longest
        and (not config.speakers or clip.speaker in config.speakers)
        and not clip.key.startswith(tuple(config.leave_out))
    ]
    if not clips:
        raise ValueError(f"{config.clips} has no clips with texts of {', '.join(config.speakers) or 'anybody'}.")
    return clips


def _speaker(note: Path) -> Speaker:
    name, level, timbre = json.loads(note.read_text(encoding="utf-8"))
    return Speaker(name, level, torch.tensor(timbre))


def lessons_of(config: TTSConfig, folder: Path, letters: Letters) -> tuple[list[Speaker], list[Lesson]]:
    """Give the speakers, and all that is learned from; words are read as the dictionary has them, where it has."""
    dictionary = {} if config.letters else Phonemes(config.dictionary or None).words()

    def read(words: Sequence[str]) -> list[list[str]]:
        guessed = iter(letters.read([word for word in words if word not in dictionary]))
        return [list(dictionary[word]) if word in dictionary else next(guessed) for word in words]

    notes = sorted((folder / "said").glob("[0-9]*-*.json"))
    speakers = [_speaker(note) for note in notes]
    numbers = {speaker.name: number for number, speaker in enumerate(speakers)}
    lessons = []
    for clip in _chosen(config):
        path = file_of(folder / "said", clip)
        if path.is_file():
            with safe_open(path, "pt") as file:
                frames = file.get_slice("rows").get_shape()[0]
            sentence = sentence_of(spoken(clip.text), read)
            if len(sentence.symbols) <= frames:
                lessons.append(Lesson(sentence, path, numbers[clip.speaker], frames))
    if not lessons:
        raise ValueError(f"{folder / 'said'} holds nothing to learn from.")
    return speakers, lessons
