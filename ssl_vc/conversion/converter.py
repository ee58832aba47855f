"""VoiceConverter: the whole conversion.

source --> extractor --> frames --> matcher, a voice --> what the vocoder reads --> blend, melody --> vocoder --> wav
"""

import logging
from collections.abc import Iterable, Iterator
from os import PathLike
from typing import Any, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ssl_vc.audio import LOUDNESS, SAMPLE_RATE, Source, normalize_loudness, read
from ssl_vc.batch.run import Job, Result, convert_batch
from ssl_vc.conversion.blending import Conversion, Tally, mixed, shares
from ssl_vc.conversion.live import Stream
from ssl_vc.conversion.prosody import Melody
from ssl_vc.conversion.source import Encoded
from ssl_vc.features.analysis import parts_of, read_by, synthesize
from ssl_vc.features.extractor import Extractor
from ssl_vc.features.time_stretch import stretch
from ssl_vc.hub.registry import load_encoder, load_vocoder
from ssl_vc.match.choice import Both, choose
from ssl_vc.match.protocol import Matcher, Pool
from ssl_vc.options import check_pitch, check_range
from ssl_vc.voice import quality as report
from ssl_vc.voice.enroll import build_voice
from ssl_vc.voice.voice import Voice
from vocoder.griffin_lim import GriffinLim
from vocoder.kinds import load
from vocoder.protocol import Vocoder
from vocoder.world import World

log = logging.getLogger(__name__)

FAR = 0.5  # of a source's frames farther away than the voice reaches are worth a warning


class VoiceConverter:
    """Say in one voice what was said in another.

    Args:
        extractor: makes the frames that are matched.
        matcher: `auto`, another name of `ssl_vc.match.choice.MATCHERS`, or a matcher.
        vocoder: what speaks; WORLD if None, which needs no training.
        synthesis: makes the frames that the vocoder reads, where they are of another layer than the extractor's.
        approximate: look for neighbours with an index that finds 99 of 100; quicker where a voice has hours of speech.
    """

    def __init__(
        self,
        extractor: Extractor,
        matcher: str | Matcher = "auto",
        vocoder: Vocoder | None = None,
        *,
        synthesis: Extractor | None = None,
        approximate: bool = False,
    ) -> None:
        self.approximate = approximate
        self.extractor, self.matcher = extractor, matcher
        self.vocoder: Vocoder = World() if vocoder is None else vocoder
        if isinstance(self.vocoder, torch.nn.Module):
            self.vocoder.to(extractor.device)
        self.analysis = read_by(self.vocoder, extractor, *([synthesis] if synthesis else []))
        self.parts = parts_of(self.vocoder)
        self.same_frames = self.analysis.made_by == extractor.spec.facts
        self._pools: WeakKeyDictionary[Voice, Pool] = WeakKeyDictionary()

    @classmethod
    def from_pretrained(
        cls,
        name: str = "tiny",
        *,
        vocoder: str | PathLike[str] | None = None,
        layer: int | None = None,
        matcher: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        offline: bool = False,
        approximate: bool = False,
    ) -> Self:
        """Load an encoder and a vocoder that fit.

        Args:
            name: `tiny` (bundled), `knn-vc` (WavLM-Large and its HiFi-GAN, fetched on first use), `untrained`, a folder
                of ours or a hub id; see `ssl_vc.hub.registry.load_encoder`.
            vocoder: `world`, `griffin-lim`, or weights (see `vocoder.kinds.load`); if None, the one that belongs to the
                model; where none does, WORLD, or Griffin-Lim if that is not installed.
            layer: the layer that is matched; if None, the one that the vocoder reads, or the encoder's own choice.
            matcher: see `VoiceConverter`.
            device: auto, cpu, cuda, cuda:1 ... or mps.
            dtype: of the encoder, see `Extractor`.
            offline: fetch nothing.
            approximate: see `VoiceConverter`.
        """
        speaker = _vocoder(name, vocoder, offline)
        reads = speaker.reads if speaker.reads.get("kind") == "ssl" else {}
        encoder = load_encoder(name, reads.get("normalized"), offline=offline)
        spoken = reads.get("layer", encoder.config.matching_layer)
        matched = spoken if layer is None else layer
        extractor = Extractor(encoder, matched, device=device, dtype=dtype)
        other = Extractor(encoder, spoken, device=device, dtype=dtype) if reads and spoken != matched else None
        return cls(extractor, matcher, speaker, synthesis=other, approximate=approximate)

    @property
    def sample_rate(self) -> int:
        """Samples of the converted sound in a second."""
        return self.vocoder.sample_rate

    def enroll(
        self,
        sources: Source | Iterable[Source],
        name: str = "voice",
        *,
        trim: bool = True,
        loudness: float | None = None,
        note: str = "",
    ) -> Voice:
        """Make a voice of recordings of one speaker; see `ssl_vc.voice.enroll.build_voice`."""
        synthesis = None if self.same_frames else self.analysis
        return build_voice(sources, self.extractor, synthesis, name=name, trimmed=trim, loudness=loudness, note=note)

    def encode(self, source: Source) -> Encoded:
        """Hear a source once, for many voices."""
        return Encoded(read(source, speech=True), self.extractor, self.analysis)

    def convert(self, source: Source | Encoded, voice: Voice, **options: Any) -> Tensor:
        """Give the source in the voice: (samples,) at `sample_rate`, as long as the source; options as `converted`."""
        return self.converted(source, voice, **options).wav

    @torch.no_grad()
    def converted(
        self,
        source: Source | Encoded,
        voice: Voice,
        *,
        matcher: str | Matcher | None = None,
        k: int | None = None,
        blend: float | Tensor = 1.0,
        pitch: str | float = "keep",
        speed: float = 1.0,
        loudness: float | None = LOUDNESS,
    ) -> Conversion:
        """Give the source in the voice, and how that came about.

        Args:
            source: see `ssl_vc.read`; or what `encode` gave.
            voice: the target, made for this converter's encoder and vocoder.
            matcher: see `VoiceConverter`; the converter's own if None.
            k: how many neighbours; the matcher's choice if None.
            blend: 1 for matched frames, 0 for the source's own, between for a mixture, above 1 for more than that; or a
                number for each frame of the source.
            pitch: `keep` what the conversion gives; `match` the voice's median; or a number: the source's own melody,
                so many semitones higher. The last two where the vocoder takes pitch, and then `keep` is `match`.
            speed: how many times as fast.
            loudness: in LUFS; None leaves it as it comes.
        """
        check_pitch(pitch, self.parts is not None)
        check_range("speed", speed, 0.25, 4)
        if loudness is not None:
            check_range("loudness", loudness, -70, 0)
        pool = self.pool(voice)
        choice = choose(self.matcher if matcher is None else matcher, pool, k)
        heard = source if isinstance(source, Encoded) else self.encode(source)
        if heard.made_by != (self.extractor.spec, dict(self.analysis.made_by)):
            raise ValueError("this source was encoded by another converter; encode it with this one.")
        samples = max(round(len(heard.wav) / speed), 1)
        frames = -(-samples // self.extractor.hop_length)
        share = shares(blend, heard.frames, frames)
        none, alone = (isinstance(share, float) and share == every for every in (0, 1))
        tally = Tally()
        query = tally.heard(self._here(stretch(heard.matched(), heard.frames, frames)))
        matches = None if none else choice.matcher(query, pool)
        melody = None
        if self.parts is not None:
            spoken = torch.cat(list(heard.spoken()))
            melody = Melody(self.parts, voice.pitch, pool.synthesis, pitch)
            melody.heard(spoken)
        own = self._here(stretch(heard.spoken(), heard.frames, frames)) if melody or not alone else None
        wav = synthesize(self.vocoder, tally.given(mixed(matches, own, melody, share, tally)), samples / SAMPLE_RATE)
        wav = wav[: round(samples * self.sample_rate / SAMPLE_RATE)]
        coverage = report.coverage(tally.distance, voice.findings)
        return Conversion(
            wav if loudness is None else normalize_loudness(wav, loudness, self.sample_rate),
            self.sample_rate,
            "none" if none else choice.name,
            choice.why if not none else "blend is 0, so these are the source's own frames.",
            float(tally.distance.mean()) if len(tally.distance) else None,
            coverage,
            tally.after.value,
            tally.before.value if self.same_frames and not none else None,
            tuple(_warnings(voice, coverage)),
        )

    def convert_batch(
        self, jobs: Iterable[Job | tuple[Any, ...]], out_dir: str | PathLike[str], resume: bool = False, **options: Any
    ) -> Iterator[Result]:
        """Do many conversions, and say what became of each; see `ssl_vc.batch.run.run_batch`.

        Args:
            jobs: each (source, voice, name of the output), or a `Job`.
            out_dir: folder of the outputs and of the report.
            resume: leave what an earlier run has finished.
            **options: `force`, and the options of `converted` for all jobs.
        """
        return convert_batch(self, jobs, out_dir, resume, **options)

    def stream(
        self,
        voice: Voice,
        *,
        k: int | None = None,
        blend: float = 1.0,
        pitch: str | float = "keep",
        block: float = 0.1,
        lookahead: float = 0.26,
        sample_rate: int = SAMPLE_RATE,
    ) -> Stream:
        """Begin a live conversion: call what this gives with chunks of sound, then its `finish`; see `Stream`.

        The matcher is the converter's own, which must be `knn`; of `auto` it is the part that is. A pitch that is moved
        to the voice's is moved from the median of what was heard so far.
        """
        check_pitch(pitch, self.parts is not None)
        check_range("blend", blend, 0, 4)
        check_range("block", block, 0.02, 10)
        check_range("lookahead", lookahead, 0.02, 10)
        check_range("sample_rate", sample_rate, 1000, 768_000)
        pool = self.pool(voice)
        chosen = choose(self.matcher, pool, k).matcher
        return Stream(
            self.extractor,
            pool,
            chosen.second if isinstance(chosen, Both) else chosen,
            self.vocoder,
            None if self.same_frames else self.analysis,
            None if self.parts is None else Melody(self.parts, voice.pitch, pool.synthesis, pitch),
            share=blend,
            block=block,
            lookahead=lookahead,
            sample_rate=sample_rate,
        )

    def pool(self, voice: Voice) -> Pool:
        """Give a voice's frames, ready to be searched; a voice that was not made for this converter is refused."""
        if not isinstance(voice, Voice):
            raise ValueError(f"the voice is a {type(voice).__name__}; give what `enroll` or `Voice.load` gave.")
        if voice not in self._pools:
            self.extractor.spec.require(voice.spec, f"the voice {voice.name!r}")
            if dict(voice.reads) != dict(self.analysis.made_by):
                raise ValueError(
                    f"the voice {voice.name!r} was built for a vocoder that reads {voice.reads.get('kind')} frames, "
                    f"and this one reads {self.analysis.made_by.get('kind')} frames of another make; build the voice "
                    "again with this vocoder."
                )
            width = voice.frames.shape[1] if voice.synthesis is None else voice.synthesis.shape[1]
            if width != self.vocoder.dim:
                raise ValueError(
                    f"the voice {voice.name!r} has {width} numbers in a frame, and the vocoder reads "
                    f"{self.vocoder.dim}; build the voice again."
                )
            self._pools[voice] = voice.pool(self.extractor.device, approximate=self.approximate)
        return self._pools[voice]

    def _here(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        return (piece.to(self.extractor.device) for piece in pieces)


def _vocoder(name: str, vocoder: str | PathLike[str] | None, offline: bool) -> Vocoder:
    if vocoder is None:
        return load_vocoder(name, offline=offline) or _untrained()
    makers = {"world": World, "griffin-lim": GriffinLim}
    return makers[str(vocoder)]() if str(vocoder) in makers else load(str(vocoder))


def _untrained() -> Vocoder:
    """Give the best vocoder that needs no training: WORLD, or Griffin-Lim where it is not installed."""
    try:
        return World()
    except ValueError as error:
        log.warning("griffin-lim speaks, and loses the source's melody: %s", error)
        return GriffinLim()


def _warnings(voice: Voice, coverage: float | None) -> Iterator[str]:
    yield from report.warnings(voice)
    if coverage is not None and coverage > FAR:
        yield (
            f"{coverage:.0%} of the source's frames are farther from the voice {voice.name!r} than its own frames are "
            "from each other; more varied recordings of it, or a source recorded more alike, help."
        )
