"""VoiceConverter: analyse the source, match its frames with the voice's, blend, synthesise.

source --> extractor --> query frames --> matcher, voice --> matched frames --> blend, prosody --> vocoder --> waveform
"""

from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from typing import Any, Self, Unpack
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE, Source
from ssl_vc.batch.run import Job, Result, convert_batch
from ssl_vc.conversion.blending import (
    ConversionResult,
    ConversionStats,
    blend_matches,
    blend_weight,
    is_constant,
    summarize,
)
from ssl_vc.conversion.finish import finish
from ssl_vc.conversion.live import Stream
from ssl_vc.conversion.options import ConversionOptions
from ssl_vc.conversion.progress import Progress
from ssl_vc.conversion.prosody import transfer_for
from ssl_vc.conversion.source import EncodedSource
from ssl_vc.conversion.vocoder_choice import require_voice, select_vocoder
from ssl_vc.features.analysis import analysis_for, layout_of, synthesize
from ssl_vc.features.extractor import Extractor
from ssl_vc.features.waveform import read_waveform
from ssl_vc.hub.registry import load_encoder
from ssl_vc.loudness import LOUDNESS
from ssl_vc.match.choice import MixedMatcher, choose
from ssl_vc.match.protocol import Matcher, Pool
from ssl_vc.options import check_pitch, check_range
from ssl_vc.voice.enroll import build_voice
from ssl_vc.voice.voice import Voice
from vocoder.protocol import Vocoder
from vocoder.world import World


class VoiceConverter:
    """Convert speech to any speaker's voice.

    Args:
        extractor: computes the frames that are matched.
        matcher: `auto`, another name of `ssl_vc.match.choice.MATCHERS`, or a matcher.
        vocoder: generates the waveform; if None, WORLD, which needs no training.
        synthesis: computes the frames that the vocoder reads, where they are of another layer than the extractor's.
        approximate: search neighbours by an index that finds 99 of 100; faster for hours of reference.
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
        self.extractor, self.matcher, self.approximate = extractor, matcher, approximate
        self._extractors = (extractor, *([synthesis] if synthesis else []))
        self.vocoder: Vocoder = World() if vocoder is None else vocoder
        self.layout = layout_of(self.vocoder)
        self._connect()

    def _connect(self) -> None:
        if isinstance(self.vocoder, torch.nn.Module):
            self.vocoder.to(self.extractor.device)
        self.analysis = analysis_for(self.vocoder, *self._extractors)
        self.same_frames = self.analysis.feature_spec == self.extractor.spec.feature_spec
        self._pools: WeakKeyDictionary[Voice, Pool] = WeakKeyDictionary()

    def __repr__(self) -> str:
        vocoder = f"{type(self.vocoder).__name__} at {self.sample_rate} Hz"
        return f"VoiceConverter({self.extractor!r}, matcher {self.matcher}, vocoder {vocoder})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("analysis", "_pools")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._connect()

    def to(self, device: str | torch.device) -> Self:
        """Move the models to a device, see `Extractor.to`; voices stay where they are. Return the converter."""
        for extractor in self._extractors:
            extractor.to(device)
        self._connect()
        return self

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
        """Load an encoder and a matching vocoder.

        Args:
            name: `tiny` (bundled), `knn-vc` (WavLM-Large and its HiFi-GAN, downloaded on first use), `untrained`, a
                folder of ours or a hub id; see `ssl_vc.hub.registry.load_encoder`.
            vocoder: `world`, `griffin-lim`, or weights (see `vocoder.kinds.load`); if None, the model's own vocoder;
                if it has none, WORLD, or Griffin-Lim where WORLD is not installed.
            layer: the layer that is matched; if None, the one that the vocoder reads, or the encoder's own choice.
            matcher: see `VoiceConverter`.
            device: auto, cpu, cuda, cuda:1 ... or mps.
            dtype: of the encoder, see `Extractor`.
            offline: download nothing.
            approximate: see `VoiceConverter`.
        """
        loaded = select_vocoder(name, vocoder, offline)
        reads = loaded.reads if loaded.reads.get("kind") == "ssl" else {}
        encoder = load_encoder(name, reads.get("normalized"), offline=offline)
        vocoder_layer = reads.get("layer", encoder.config.matching_layer)
        query_layer = vocoder_layer if layer is None else layer
        extractor = Extractor(encoder, query_layer, device=device, dtype=dtype)
        two_layers = reads and vocoder_layer != query_layer
        synthesis = Extractor(encoder, vocoder_layer, device=device, dtype=dtype) if two_layers else None
        return cls(extractor, matcher, loaded, synthesis=synthesis, approximate=approximate)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the output in Hz."""
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
        """Build a voice from recordings of one speaker; see `ssl_vc.voice.enroll.build_voice`."""
        synthesis = None if self.same_frames else self.analysis
        return build_voice(sources, self.extractor, synthesis, name=name, trimmed=trim, loudness=loudness, note=note)

    def encode(self, source: Source) -> EncodedSource:
        """Analyse a source once, for many voices."""
        return EncodedSource(read_waveform(source), self.extractor, self.analysis)

    def convert(
        self,
        source: Source | EncodedSource,
        voice: Voice,
        *,
        matcher: str | Matcher | None = None,
        k: int | None = None,
        blend: float | Tensor = 1.0,
        pitch: str | float = "match",
        speed: float = 1.0,
        loudness: float | None = LOUDNESS,
        progress: Callable[[float], None] | None = None,
    ) -> Tensor:
        """Convert a source to a voice: (samples,) at `sample_rate`, as long as the source; see `convert_detailed`."""
        chosen: ConversionOptions = {"matcher": matcher, "k": k, "blend": blend}
        chosen |= {"pitch": pitch, "speed": speed, "loudness": loudness}
        return self.convert_detailed(source, voice, progress=progress, **chosen).wav

    @torch.no_grad()
    def convert_detailed(
        self,
        source: Source | EncodedSource,
        voice: Voice,
        *,
        matcher: str | Matcher | None = None,
        k: int | None = None,
        blend: float | Tensor = 1.0,
        pitch: str | float = "match",
        speed: float = 1.0,
        loudness: float | None = LOUDNESS,
        progress: Callable[[float], None] | None = None,
    ) -> ConversionResult:
        """Convert a source to a voice, with diagnostics.

        Args:
            source: see `ssl_vc.read`; or what `encode` returned.
            voice: the target, built with this converter's encoder and vocoder.
            matcher: see `VoiceConverter`; the converter's own if None.
            k: number of neighbours; the matcher's default if None.
            blend: 1: matched frames, 0: the source's own, between: interpolation, above 1: extrapolation; or one
                number for each frame of the source.
            pitch: `match` (formerly also `keep`): the voice's F0, by its median if the vocoder's frames have pitch,
                else by the matched frames; or semitones above the source's own F0, for the former vocoders only.
            speed: factor of the tempo.
            loudness: of the output in LUFS, see `ssl_vc.conversion.finish`; None leaves the output as it is.
            progress: called with the share that is done, from 0 to 1.
        """
        check_pitch(pitch, self.layout is not None)
        check_range("speed", speed, 0.25, 4)
        check_range("loudness", 0 if loudness is None else loudness, -70, 0)
        pool = self.pool(voice)
        choice = choose(self.matcher if matcher is None else matcher, pool, k)
        encoded = self._encoded(source)
        samples = max(round(len(encoded.wav) / speed), 1)
        frames = -(-samples // self.extractor.hop_length)
        done = Progress(progress, encoded.frames, frames)
        encoded.on_frames, stats = done.analyzed, ConversionStats(done.generated)
        weight = blend_weight(blend, encoded.frames, frames)
        matched = not is_constant(weight, 0)
        prosody = transfer_for(self.layout, voice, pool, pitch, encoded.vocoder_frames())

        # lazy: the vocoder pulls frames through all steps, in bounded memory
        query, own = encoded.stretched(frames, self.extractor.device)
        matches = stats.record_matches(choice.matcher(stats.record_query(query), pool)) if matched else None
        blended = stats.record_output(blend_matches(matches, own, prosody, weight))
        wav = synthesize(self.vocoder, blended, samples / SAMPLE_RATE)
        wav = wav[: round(samples * self.sample_rate / SAMPLE_RATE)]
        notes = finish(wav, self.sample_rate, encoded.wav, loudness, gated=not encoded.generated)
        return summarize(wav, self.sample_rate, voice, choice if matched else None, stats, notes)

    converted = convert_detailed  # former name, kept for one release

    def convert_batch(
        self,
        jobs: Iterable[Job | tuple[Any, ...]],
        out_dir: str | PathLike[str],
        resume: bool = False,
        *,
        force: bool = False,
        **options: Unpack[ConversionOptions],
    ) -> Iterator[Result]:
        """Run many conversions and yield the outcome of each; see `ssl_vc.batch.run.run_batch`.

        Args:
            jobs: each (source, voice, name of the output), or a `Job`.
            out_dir: folder of the outputs and of the report.
            resume: skip jobs that an earlier run has finished.
            force: run all jobs, and overwrite existing outputs.
            **options: of `convert_detailed`, for all jobs.
        """
        return convert_batch(self, jobs, out_dir, resume, force=force, **options)

    def stream(
        self,
        voice: Voice,
        *,
        k: int | None = None,
        blend: float = 1.0,
        pitch: str | float = "match",
        block: float = 0.1,
        lookahead: float = 0.26,
        sample_rate: int = SAMPLE_RATE,
        threads: int = 1,
    ) -> Stream:
        """Start a live conversion: call the returned `Stream` with chunks of a waveform, then its `finish`.

        Takes the converter's own matcher: `knn`, or the kNN part of `auto`. The source's median F0 is a running one.
        """
        check_pitch(pitch, self.layout is not None)
        pool = self.pool(voice)
        chosen = choose(self.matcher, pool, k).matcher
        return Stream(
            self.extractor,
            pool,
            chosen.second if isinstance(chosen, MixedMatcher) else chosen,
            self.vocoder,
            None if self.same_frames else self.analysis,
            transfer_for(self.layout, voice, pool, pitch),
            weight=blend,
            block=block,
            lookahead=lookahead,
            sample_rate=sample_rate,
            threads=threads,
        )

    def pool(self, voice: Voice) -> Pool:
        """Return a voice's frames ready for search; raises ValueError if the voice does not fit this converter."""
        if not isinstance(voice, Voice):
            raise ValueError(f"the voice is a {type(voice).__name__}; give the result of `enroll` or `Voice.load`.")
        if voice not in self._pools:
            require_voice(voice, self.extractor, self.analysis, self.vocoder)
            self._pools[voice] = voice.pool(self.extractor.device, approximate=self.approximate)
        return self._pools[voice]

    def _encoded(self, source: Source | EncodedSource) -> EncodedSource:
        encoded = source if isinstance(source, EncodedSource) else self.encode(source)
        if encoded.specs != (self.extractor.spec, dict(self.analysis.feature_spec)):
            raise ValueError("this source was encoded by another converter; encode it with this one.")
        return encoded
