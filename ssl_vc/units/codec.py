"""UnitCodec: sound to discrete units and back, in the same voice or in another.

    wav -> encoder -> content -> nearest of K centres -> ids ---------------.
        -> pitch -> codes at 12.5 Hz ---------------------------------------+-> frames -> vocoder -> wav
        -> mean spectrum, median pitch: the voice (or another's) -----------'

Polyak, Adi, Copet, Kharitonov, Lakhotia, Hsu, Mohamed and Dupoux, 2021, "Speech Resynthesis from Discrete Disentangled
Self-Supervised Representations", arXiv 2104.00355. Here a speaker is what his voice is on average, so that no one needs
to be known beforehand, and the vocoder is one of pulses at the pitch.
"""

from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pretrain import SpeechEncoder
from ssl_vc.audio import LOUDNESS, SAMPLE_RATE, Source, normalize_loudness, read
from ssl_vc.features.analysis import synthesize
from ssl_vc.features.disentangled import KIND as SPOKEN
from ssl_vc.features.disentangled import parts_of, through_unvoiced
from ssl_vc.features.extractor import Extractor
from ssl_vc.hub.registry import BUNDLED, load_encoder
from ssl_vc.match.knn import KNN
from ssl_vc.match.protocol import Pool
from ssl_vc.units import melody
from ssl_vc.units.book import Book, runs_of
from ssl_vc.units.file import BYTES, Layout, Units
from ssl_vc.units.speech import UnitSpeech
from ssl_vc.voice.voice import Voice
from vocoder.kinds import load
from vocoder.pitch import NO_PITCH, level_of
from vocoder.protocol import Vocoder, require

PITCHES = ("codes", "bytes", "none")
SMOOTH = (0.1, 0.2, 0.4, 0.2, 0.1)  # of centres, frame by frame, when a voice's frames are chosen by units


class UnitCodec:
    """Sound to units, and units to sound.

    Args:
        speech: hears what units are made of.
        vocoder: speaks frames of units.
    """

    def __init__(self, speech: UnitSpeech, vocoder: Vocoder) -> None:
        self.speech, self.book, self.vocoder = speech, speech.book, vocoder
        require(vocoder.reads, speech.made_by, "units of this codec")

    @classmethod
    def from_pretrained(
        cls,
        name: str | PathLike[str] = "tiny",
        *,
        encoder: str | SpeechEncoder = "tiny",
        device: str = "auto",
        offline: bool = False,
    ) -> Self:
        """Load a codec.

        Args:
            name: `tiny` (bundled), or a folder that `ssl-vc train-units` made.
            encoder: whose content it was made of; see `ssl_vc.hub.registry.load_encoder`.
            device: auto, cpu, cuda, cuda:1 ... or mps.
            offline: fetch nothing.
        """
        folder = BUNDLED / "tiny" / "units" if name == "tiny" else Path(name)
        if not is_codec(folder):
            raise ValueError(f"there are no units at {str(name)!r}; take 'tiny', or what `ssl-vc train-units` made.")
        book, vocoder = Book.load(folder / "book.safetensors"), load(str(folder / "vocoder"))
        heard = load_encoder(encoder, offline=offline) if isinstance(encoder, str) else encoder
        extractor = Extractor(heard, book.facts.get("layer"), device=device)
        speech = UnitSpeech(extractor, book, vocoder.reads.get("form", "shares"))
        return cls(speech, vocoder.to(extractor.device))

    def encode(self, source: Source, *, layout: Layout = "runs", pitch: str = "codes", voice: bool = True) -> Units:
        """Give the units of a sound.

        Args:
            source: see `ssl_vc.read`.
            layout: `frames`, `runs` or `ids`: see `ssl_vc.units.file`.
            pitch: `codes`, `bytes` (every frame's own), or `none`.
            voice: whether the file tells whose voice it was.
        """
        if pitch not in PITCHES:
            raise ValueError(f"pitch is {pitch!r}; possible are {', '.join(PITCHES)}.")
        wav = read(source, speech=True)
        heard = self.speech.hear(wav)
        ids = self.book.content(heard.content)
        runs, lengths = runs_of(ids)
        kinds = {"codes": self.book.pitch.clusters, "bytes": BYTES, "none": 0}[pitch]
        numbers = None
        if pitch == "bytes":
            numbers = melody.to_bytes(heard.pitch)
        elif pitch == "codes" and layout == "ids":
            numbers = melody.coded_runs(heard.pitch, lengths, kinds)
        elif pitch == "codes":
            numbers = melody.coded(heard.pitch, self.book.pitch)
        return Units(
            self.book.fingerprint,
            self.book.clusters,
            len(wav),
            ids if layout == "frames" else runs,
            lengths if layout == "runs" else None,
            layout,
            numbers,
            kinds,
            level_of(heard.pitch) if voice else 0.0,
            heard.timbre if voice else None,
        )

    def decode(
        self, units: Units, voice: Voice | None = None, *, pitch: float = 0.0, loudness: float | None = LOUDNESS
    ) -> Tensor:
        """Give the sound (samples,) at the vocoder's rate.

        Args:
            units: of this codec.
            voice: who speaks: a voice of `VoiceConverter` with a vocoder of spoken frames (see
                `ssl_vc.features.disentangled`); if None, whom the units tell of, or nobody in particular.
            pitch: semitones higher.
            loudness: in LUFS; None leaves it as it comes.
        """
        return _sound(self.vocoder, self.frames(units, voice, pitch), units, loudness)

    def frames(self, units: Units, voice: Voice | None = None, pitch: float = 0.0) -> Tensor:
        """Give what the vocoder reads (frames, dim); see `decode`."""
        timbre, level = self._speaker(units, voice)
        ids, track = self.told(units, level * 2 ** (pitch / 12))
        return self.speech.frames(ids, track, timbre)

    def select(
        self,
        units: Units,
        voice: Voice,
        vocoder: Vocoder,
        *,
        k: int = 8,
        pitch: float = 0.0,
        loudness: float | None = LOUDNESS,
    ) -> Tensor:
        """Give the sound (samples,) of the voice's own frames, those of the same units among alike ones.

        Args:
            units: of this codec.
            voice: whose frames are chosen; as in `decode`.
            vocoder: speaks the voice's frames.
            k: how many of them are averaged.
            pitch: semitones higher than the voice.
            loudness: in LUFS; None leaves it as it comes.
        """
        _, level = self._speaker(units, voice)
        ids, track = self.told(units, level * 2 ** (pitch / 12))
        assert voice.synthesis is not None
        theirs, parts = voice.synthesis.float(), parts_of(voice.reads)
        own = self.book.content(normalize(theirs[:, parts.content], dim=1))
        pool = Pool(self._smoothed(own), theirs, [origin.frames for origin in voice.origins] or None)
        (match,) = KNN(k)([self._smoothed(ids)], pool)
        frames = match.frames.clone()
        frames[:, parts.pitch] = through_unvoiced(track)[:, None]
        frames[:, parts.voicing] = (track > 0).float()[:, None]
        frames[:, parts.content] = self.book.content.centres[ids] * self.book.content.centres.shape[1] ** 0.5
        return _sound(vocoder, frames, units, loudness)

    def told(self, units: Units, level: float) -> tuple[Tensor, Tensor]:
        """Give the unit and the F0 of every frame, what is not told being guessed, at a median of `level` Hz."""
        if (units.codec, units.clusters) != (self.book.fingerprint, self.book.clusters):
            raise ValueError(
                f"these units are of the codec {units.codec}, and this one is {self.book.fingerprint}; "
                "decode them with the codec that made them."
            )
        runs, lengths = (units.ids, units.lengths) if units.layout == "runs" else runs_of(units.ids)
        guess = self.book.prosody.guess(runs) if units.pitch is None or units.layout == "ids" else None
        if units.layout == "ids":
            assert guess is not None
            lengths = _filling(guess.lengths, units.frames)
        assert lengths is not None
        if units.pitch is None or (units.layout == "ids" and units.pitches != BYTES):
            assert guess is not None
            height, voiced = guess.height, guess.voiced
            if units.pitch is not None:
                height, voiced = melody.from_run_codes(units.pitch, units.pitches)
            track = _line(height, lengths).exp() * level * voiced.repeat_interleave(lengths)
        elif units.pitches == BYTES:
            track = melody.from_bytes(units.pitch)
            track = track * (level / level_of(track))
        else:
            track = melody.from_codes(units.pitch, self.book.pitch, level, units.frames)
        return runs.repeat_interleave(lengths), track

    def _speaker(self, units: Units, voice: Voice | None) -> tuple[Tensor, float]:
        """Give timbre and median F0 of who is to speak."""
        if voice is None:
            return (self.book.timbre, NO_PITCH) if units.timbre is None else (units.timbre, units.level)
        wanted = {
            name: fact for name, fact in self.speech.made_by.items() if name not in ("kind", "codec", "form", "dim")
        }
        told = {name: voice.reads.get(name) for name in wanted}
        if voice.reads.get("kind") != SPOKEN or told != wanted or voice.synthesis is None:
            raise ValueError(
                f"the voice {voice.name!r} holds no spoken frames of this encoder; build it with the model that these "
                "units were made with."
            )
        timbre = voice.synthesis[:, -wanted["bands"] :].float().mean(0)
        return timbre, voice.pitch.median if voice.pitch else NO_PITCH

    def _smoothed(self, ids: Tensor) -> Tensor:
        """Give centres (frames, dim), each with a part of those beside it: what comes before and after is told too."""
        centres = self.book.content.centres[ids]
        reach = len(SMOOTH) // 2
        padded = torch.cat([centres[:1].expand(reach, -1), centres, centres[-1:].expand(reach, -1)])
        smoothed = sum(share * padded[at : at + len(ids)] for at, share in enumerate(SMOOTH))
        assert isinstance(smoothed, Tensor)
        return smoothed


def is_codec(folder: str | PathLike[str]) -> bool:
    """Tell whether a folder holds a codec."""
    return (Path(folder) / "book.safetensors").is_file()


def bitrate(units: Units) -> dict[str, float]:
    """Give the bits a second of content, pitch and voice, and how many the content's ids need by their entropy."""
    seconds = units.samples / SAMPLE_RATE
    rates = {name: len(bits) / seconds for name, bits in units.streams().items()}
    return {**rates, "entropy": entropy(torch.bincount(units.ids)) * len(units.ids) / seconds}


def entropy(counts: Tensor) -> float:
    """Give the bits that a number takes on average, of which each occurs so many times (kinds,)."""
    share = counts[counts > 0].double() / counts.sum()
    return float(-(share * share.log2()).sum())


def _sound(vocoder: Vocoder, frames: Tensor, units: Units, loudness: float | None) -> Tensor:
    wav = synthesize(vocoder, [frames], units.samples / SAMPLE_RATE)
    wav = wav[: round(units.samples * vocoder.sample_rate / SAMPLE_RATE)]
    return wav if loudness is None else normalize_loudness(wav, loudness, vocoder.sample_rate)


def _filling(lengths: Tensor, frames: int) -> Tensor:
    """Stretch guessed lengths (runs,) so that together they are exactly so many frames, and none is less than 1."""
    spare = frames - len(lengths)  # what is left when each has its one
    ends = ((lengths - 1).cumsum(0).double() * spare / max(int((lengths - 1).sum()), 1)).round().long()
    ends[-1] = spare
    return 1 + ends.diff(prepend=ends.new_zeros(1))


def _line(values: Tensor, lengths: Tensor) -> Tensor:
    """Give a value for every frame: each run's in its middle, and on straight lines between."""
    middles = lengths.cumsum(0) - lengths / 2
    at = torch.arange(int(lengths.sum())) + 0.5
    return torch.from_numpy(np.interp(at.numpy(), middles.numpy(), values.numpy())).float()
