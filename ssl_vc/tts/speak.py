"""kNN-TTS: text in any voice.

    text -> sentences -> text model -> frames -> matched with the voice, as in a conversion -> vocoder -> wav

It therefore takes what a conversion takes: any voice of the same encoder and vocoder, blend, pitch and speed.
"""

import logging
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import torch
from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.conversion.source import EncodedSource
from ssl_vc.features.analysis import synthesize
from ssl_vc.hub.registry import BUNDLED
from ssl_vc.limiter import master
from ssl_vc.loudness import LOUDNESS
from ssl_vc.options import check_range
from ssl_vc.tts.espeak import Espeak
from ssl_vc.tts.markup import MarkedSentence, parse_markup
from ssl_vc.tts.model import TextModel
from ssl_vc.voice.voice import Voice

log = logging.getLogger(__name__)

PAUSE = 0.15  # seconds between sentences
MATCHER, NEIGHBOURS = "knn", 4
READERS = ("g2p", "espeak")
FORMER_READERS = {"letters": "g2p"}


class SpeechOptions(TypedDict, total=False):
    """Options of `TextToSpeech.stream`, which says what they mean and has their defaults."""

    blend: float | Sequence[float]
    speed: float
    pitch: str | float
    k: int
    speaker: int | str
    steps: int
    temperature: float
    melody: float
    seed: int
    warmth: float | None


class TextToSpeech:
    """Text to speech in any voice.

    Args:
        model: sentences to frames.
        converter: matches the frames and enrolls voices; with the model's encoder and vocoder.
    """

    def __init__(self, model: TextModel, converter: VoiceConverter) -> None:
        self.model, self.converter = model, converter
        converter.extractor.spec.require(model.spec, "the text model")
        if dict(converter.analysis.feature_spec) != model.reads:
            raise ValueError("the text model was trained for another vocoder; use the model it was trained with.")
        model.acoustic.to(converter.extractor.device)

    def __repr__(self) -> str:
        return f"TextToSpeech(speakers {', '.join(self.speakers)}; {self.converter!r})"

    def to(self, device: str | torch.device) -> Self:
        """Move the models to a device, and return the synthesizer; see `VoiceConverter.to`."""
        self.model.acoustic.to(self.converter.to(device).extractor.device)
        return self

    @classmethod
    def from_pretrained(
        cls,
        name: str = "tiny",
        *,
        model: str | PathLike[str] | None = None,
        reader: str = "g2p",
        device: str = "auto",
        offline: bool = False,
    ) -> Self:
        """Load a text model with its encoder and vocoder.

        Args:
            name: encoder and vocoder, see `VoiceConverter.from_pretrained`.
            model: folder of a model trained by `ssl-vc train-tts`; the bundled one if None.
            reader: source of pronunciations: `g2p`, the model's own network, or `espeak`, where eSpeak NG is installed.
            device: auto, cpu, cuda, cuda:1 ... or mps.
            offline: use local files only.
        """
        return cls(load_text_model(model, reader), VoiceConverter.from_pretrained(name, device=device, offline=offline))

    @property
    def sample_rate(self) -> int:
        """Sample rate of the output."""
        return self.converter.sample_rate

    @property
    def speakers(self) -> list[str]:
        """Names of the training speakers; the voices available without a target voice."""
        return [speaker.name for speaker in self.model.speakers]

    def speak(
        self,
        text: str,
        voice: Voice | None = None,
        *,
        loudness: float | None = LOUDNESS,
        **options: Unpack[SpeechOptions],
    ) -> Tensor:
        """Returns a text in a voice, (samples,) at `sample_rate`; options as in `stream`."""
        wav = torch.cat(list(self.stream(text, voice, **options)))
        if loudness is not None and (note := master(wav, loudness, self.sample_rate)):
            log.warning(note)
        return wav

    def stream(
        self,
        text: str,
        voice: Voice | None = None,
        *,
        blend: float | Sequence[float] = 1.0,
        speed: float = 1.0,
        pitch: str | float = "match",
        k: int = NEIGHBOURS,
        speaker: int | str = 0,
        steps: int = 4,
        temperature: float = 0.3,
        melody: float = 1.0,
        seed: int = 0,
        warmth: float | None = None,
    ) -> Iterator[Tensor]:
        """Yield the waveform sentence by sentence, with pauses between.

        Args:
            text: in English, of any length; parts may have their own blend, `<voice blend=0.3>so</voice>`.
            voice: of this model's encoder and vocoder; the training speaker's if None.
            blend: 1 for matched frames, 0 for those predicted of the training speaker; one for all, or one per
                normalised word. See `VoiceConverter.convert_detailed`.
            speed: speaking rate; 2 is twice as fast.
            pitch: see `VoiceConverter.convert_detailed`.
            k: number of neighbours.
            speaker: training speaker whose speaking style is used, by number or name.
            steps: Euler steps of the text model's flow.
            temperature: sampling temperature, from 0 to 1.
            melody: scale of the log-F0 contour around its median, from 0 (monotone) to 3.
            seed: of the sampling noise.
            warmth: former name of `temperature`.
        """
        temperature = temperature if warmth is None else warmth
        for name, value, high in (("temperature", temperature, 1), ("melody", melody, 3)):
            check_range(name, value, 0, high)
        check_range("speed", speed, 0.25, 4)
        default, per_word = (1.0, blend) if isinstance(blend, Sequence) else (blend, ())
        style: dict[str, Any] = {"speed": speed, "steps": steps, "temperature": temperature, "melody": melody}
        style |= {"speaker": self._speaker_id(speaker), "generator": torch.Generator().manual_seed(seed)}
        for index, sentence in enumerate(parse_markup(text, per_word)):
            if index:
                yield torch.zeros(round(PAUSE * self.sample_rate))
            source, words = self.encode_sentence(sentence.text, **style)
            yield self._render(source, voice, blend=_frame_blends(sentence, words, default), pitch=pitch, k=k)

    def _render(self, source: EncodedSource, voice: Voice | None, **options: Any) -> Tensor:
        """Returns the waveform of a source in a voice, or in its own."""
        if voice is None:
            return synthesize(self.converter.vocoder, source.vocoder_frames(), len(source.wav) / SAMPLE_RATE)
        return self.converter.convert(source, voice, matcher=MATCHER, loudness=None, **options)

    def encode_sentence(self, text: str, speaker: int = 0, **options: Any) -> tuple[EncodedSource, Tensor]:
        """Returns a normalised sentence as a source of conversions, and the word index of each frame.

        A pause belongs to the word before it; what precedes the first word has index -1.
        """
        sentence = self.model.to_symbols(text)
        query_frames, vocoder_frames, durations = self.model.generate(sentence, speaker, **options)
        words = torch.tensor(sentence.words).cummax(0).values.repeat_interleave(durations)
        extractor, analysis = self.converter.extractor, self.converter.analysis
        return EncodedSource.from_frames(query_frames, vocoder_frames, extractor, analysis), words

    def _speaker_id(self, speaker: int | str) -> int:
        if isinstance(speaker, int) and not isinstance(speaker, bool) and 0 <= speaker < len(self.speakers):
            return speaker
        if speaker in self.speakers:
            return self.speakers.index(str(speaker))
        raise ValueError(f"there is no speaker {speaker!r}; possible are {', '.join(self.speakers)}.")


def load_text_model(folder: str | PathLike[str] | None = None, reader: str = "g2p") -> TextModel:
    """Load a text model trained by `ssl-vc train-tts`; the bundled one if None."""
    reader = FORMER_READERS.get(reader, reader)
    if reader not in READERS:
        raise ValueError(f"there is no reader {reader!r}; possible are {', '.join(READERS)}.")
    model = TextModel.load(BUNDLED / "tiny" / "tts" if folder is None else Path(folder))
    if reader == "espeak":
        model.phonemize = Espeak().phonemize
    return model


def _frame_blends(sentence: MarkedSentence, words: Tensor, default: float) -> float | Tensor:
    """Returns the blend of each frame; one for all where no word has its own."""
    if all(blend is None for blend in sentence.blends):
        return default
    blends = torch.tensor([default if blend is None else blend for blend in (None, *sentence.blends)])
    return blends[words + 1]
