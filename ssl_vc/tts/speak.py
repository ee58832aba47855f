"""Speaking: text in any voice.

    text -> sentences -> text model -> frames -> matched with the voice, as in a conversion -> vocoder -> wav

So what a conversion takes, this takes too: any voice of the same encoder and vocoder, blend, pitch, speed.
"""

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ssl_vc.audio import LOUDNESS, SAMPLE_RATE, normalize_loudness
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.conversion.source import Encoded
from ssl_vc.features.analysis import synthesize
from ssl_vc.hub.registry import BUNDLED
from ssl_vc.options import check_range
from ssl_vc.tts.espeak import Espeak
from ssl_vc.tts.marks import Line, lines
from ssl_vc.tts.model import TextModel
from ssl_vc.voice.voice import Voice

PAUSE = 0.15  # seconds between sentences
MATCHER, NEIGHBOURS = "knn", 4
READERS = ("letters", "espeak")


class TextToSpeech:
    """Says texts in voices.

    Args:
        model: says sentences in frames.
        converter: matches them, and makes voices (`enroll`); with the model's encoder and vocoder.
    """

    def __init__(self, model: TextModel, converter: VoiceConverter) -> None:
        self.model, self.converter = model, converter
        converter.extractor.spec.require(model.spec, "the text model")
        if dict(converter.analysis.made_by) != model.reads:
            raise ValueError("the text model was learned for another vocoder; take the model that it was trained with.")
        model.acoustic.to(converter.extractor.device)

    @classmethod
    def from_pretrained(
        cls,
        name: str = "tiny",
        *,
        model: str | PathLike[str] | None = None,
        reader: str = "letters",
        device: str = "auto",
        offline: bool = False,
    ) -> Self:
        """Load a text model, and what it speaks with.

        Args:
            name: encoder and vocoder, see `VoiceConverter.from_pretrained`.
            model: a folder that `ssl-vc train-tts` made; the bundled one if None.
            reader: how words are read: by the model's own `letters`, or by `espeak`, where that program is installed.
            device: auto, cpu, cuda, cuda:1 ... or mps.
            offline: fetch nothing.
        """
        return cls(load_text_model(model, reader), VoiceConverter.from_pretrained(name, device=device, offline=offline))

    @property
    def sample_rate(self) -> int:
        """Samples of the sound in a second."""
        return self.converter.sample_rate

    @property
    def speakers(self) -> list[str]:
        """Whose speech the model was learned from: who speaks where no voice is given."""
        return [speaker.name for speaker in self.model.speakers]

    def speak(
        self, text: str, voice: Voice | None = None, *, loudness: float | None = LOUDNESS, **options: Any
    ) -> Tensor:
        """Give a text in a voice: (samples,) at `sample_rate`; options as `stream`."""
        wav = torch.cat(list(self.stream(text, voice, **options)))
        return wav if loudness is None else normalize_loudness(wav, loudness, self.sample_rate)

    def stream(
        self,
        text: str,
        voice: Voice | None = None,
        *,
        blend: float | Sequence[float] = 1.0,
        speed: float = 1.0,
        pitch: str | float = "keep",
        k: int = NEIGHBOURS,
        speaker: int | str = 0,
        steps: int = 4,
        warmth: float = 0.3,
        melody: float = 1.0,
        seed: int = 0,
    ) -> Iterator[Tensor]:
        """Give the sound sentence by sentence, so that the first is heard while the others are made.

        Args:
            text: in English, of any length; parts may be marked, `<voice blend=0.3>so</voice>`.
            voice: of this model's encoder and vocoder; if None, the speaker's own.
            blend: 1: the voice's frames; 0: the speaker's own as the model says them; see `VoiceConverter.converted`;
                one for all, or for each word as it is spoken.
            speed: how many times as fast.
            pitch: see `VoiceConverter.converted`.
            k: neighbours that are averaged.
            speaker: whose way to speak, by number or name.
            steps: of the text model's flow.
            warmth: how varied it speaks, from 0 to 1.
            melody: how many times as wide the pitch goes up and down, from 0 (monotonous) to 3.
            seed: of its noise.
        """
        for name, value, low, high in (("speed", speed, 0.25, 4), ("warmth", warmth, 0, 1), ("melody", melody, 0, 3)):
            check_range(name, value, low, high)
        number = self._number(speaker)
        usual, each = (1.0, blend) if isinstance(blend, Sequence) else (blend, ())
        parts = lines(text, each)
        generator = torch.Generator().manual_seed(seed)
        for index, part in enumerate(parts):
            how = {"speed": speed, "steps": steps, "warmth": warmth, "melody": melody, "generator": generator}
            heard, words = self.said(part.spoken, number, **how)
            if voice is None:
                wav = synthesize(self.converter.vocoder, heard.spoken(), len(heard.wav) / SAMPLE_RATE)
            else:
                share = _of_frames(part, words, usual)
                wav = self.converter.convert(
                    heard, voice, blend=share, pitch=pitch, matcher=MATCHER, k=k, loudness=None
                )
            yield wav
            if index < len(parts) - 1:
                yield wav.new_zeros(round(PAUSE * self.sample_rate))

    def said(self, sentence: str, speaker: int = 0, **options: Any) -> tuple[Encoded, Tensor]:
        """Give a sentence as `ssl_vc.tts.text.spoken` writes it, as a source of conversions, and each frame's word.

        The words are numbers; what is said between them has that of the word before, and -1 before the first.
        """
        read = self.model.read(sentence)
        matched, spoken, lengths = self.model.say(read, speaker, **options)
        words = torch.tensor(read.words).cummax(0).values.repeat_interleave(lengths)
        return Encoded.made(matched, spoken, self.converter.extractor, self.converter.analysis), words

    def _number(self, speaker: int | str) -> int:
        if isinstance(speaker, int) and not isinstance(speaker, bool) and 0 <= speaker < len(self.speakers):
            return speaker
        if speaker in self.speakers:
            return self.speakers.index(str(speaker))
        raise ValueError(f"there is no speaker {speaker!r}; possible are {', '.join(self.speakers)}.")


def load_text_model(folder: str | PathLike[str] | None = None, reader: str = "letters") -> TextModel:
    """Load a text model that `ssl-vc train-tts` made; the bundled one if None."""
    if reader not in READERS:
        raise ValueError(f"there is no reader {reader!r}; possible are {', '.join(READERS)}.")
    model = TextModel.load(BUNDLED / "tiny" / "tts" if folder is None else Path(folder))
    if reader == "espeak":
        model.reader = Espeak().read
    return model


def _of_frames(line: Line, words: Tensor, usual: float) -> float | Tensor:
    """Give the blend of a sentence, or of each of its frames where words have their own."""
    if all(blend is None for blend in line.blends):
        return usual
    each = torch.tensor([usual if blend is None else blend for blend in (None, *line.blends)])
    return each[words + 1]
