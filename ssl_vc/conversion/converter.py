"""VoiceConverter: analyse the source, match its frames with the voice's, blend, synthesise.

source --> extractor --> query frames --> matcher, voice --> matched frames --> blend, prosody --> vocoder --> waveform
"""

from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from typing import Any, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE, Source
from ssl_vc.batch.run import Job, Result, convert_batch
from ssl_vc.conversion.blending import ConversionResult, ConversionStats, blend_matches, blend_weight, is_constant
from ssl_vc.conversion.gate import apply_gain, pause_gain
from ssl_vc.conversion.live import Stream
from ssl_vc.conversion.progress import Progress
from ssl_vc.conversion.prosody import ProsodyTransfer
from ssl_vc.conversion.source import EncodedSource
from ssl_vc.conversion.vocoder_choice import require_voice, select_vocoder
from ssl_vc.features.analysis import analysis_for, layout_of, synthesize
from ssl_vc.features.extractor import Extractor
from ssl_vc.features.time_stretch import stretch
from ssl_vc.features.waveform import read_waveform
from ssl_vc.hub.registry import load_encoder
from ssl_vc.limiter import master
from ssl_vc.loudness import LOUDNESS
from ssl_vc.match.choice import Choice, MixedMatcher, choose
from ssl_vc.match.protocol import Matcher, Pool
from ssl_vc.options import check_pitch, check_range
from ssl_vc.voice import quality
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
        self.approximate = approximate
        self.extractor, self.matcher = extractor, matcher
        self.vocoder: Vocoder = World() if vocoder is None else vocoder
        if isinstance(self.vocoder, torch.nn.Module):
            self.vocoder.to(extractor.device)
        self.analysis = analysis_for(self.vocoder, extractor, *([synthesis] if synthesis else []))
        self.layout = layout_of(self.vocoder)
        self.same_frames = self.analysis.feature_spec == extractor.spec.feature_spec
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

    def convert(self, source: Source | EncodedSource, voice: Voice, **options: Any) -> Tensor:
        """Convert a source to a voice: (samples,) at `sample_rate`, as long as the source; see `convert_detailed`."""
        return self.convert_detailed(source, voice, **options).wav

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
            loudness: of the output in LUFS, see `ssl_vc.limiter.master`; None leaves it unchanged.
            progress: called with the share that is done, from 0 to 1.
        """
        self._check_options(pitch, speed, loudness)
        pool = self.pool(voice)
        choice = choose(self.matcher if matcher is None else matcher, pool, k)
        encoded = self._encoded(source)
        samples = max(round(len(encoded.wav) / speed), 1)
        frames = -(-samples // self.extractor.hop_length)
        done = Progress(progress, encoded.frames, frames)
        encoded.on_frames, stats = done.analyzed, ConversionStats(done.generated)
        weight = blend_weight(blend, encoded.frames, frames)
        matched = not is_constant(weight, 0)
        prosody = self._prosody(voice, pool, pitch, encoded)

        # lazy: the vocoder pulls frames through all steps, in bounded memory
        query, own = self._analyze(encoded, frames)
        matches = stats.record_matches(choice.matcher(stats.record_query(query), pool)) if matched else None
        blended = stats.record_output(blend_matches(matches, own, prosody, weight))
        wav = self._synthesize(blended, samples)
        if matched:
            apply_gain(wav, pause_gain(encoded.wav))
        note = None if loudness is None else master(wav, loudness, self.sample_rate)
        return self._result(wav, voice, choice if matched else None, stats, note)

    converted = convert_detailed  # former name, kept for one release

    def convert_batch(
        self, jobs: Iterable[Job | tuple[Any, ...]], out_dir: str | PathLike[str], resume: bool = False, **options: Any
    ) -> Iterator[Result]:
        """Run many conversions and yield the outcome of each; see `ssl_vc.batch.run.run_batch`.

        Args:
            jobs: each (source, voice, name of the output), or a `Job`.
            out_dir: folder of the outputs and of the report.
            resume: skip jobs that an earlier run has finished.
            **options: `force`, and the options of `convert_detailed` for all jobs.
        """
        return convert_batch(self, jobs, out_dir, resume, **options)

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

        The matcher is the converter's own, which must be `knn`; of `auto` its kNN part is used. The source's median F0
        is a running one.
        """
        check_pitch(pitch, self.layout is not None)
        check_range("blend", blend, 0, 4)
        check_range("block", block, 0.02, 10)
        check_range("lookahead", lookahead, 0.02, 10)
        check_range("sample_rate", sample_rate, 1000, 768_000)
        check_range("threads", threads, 1, 1024)
        pool = self.pool(voice)
        chosen = choose(self.matcher, pool, k).matcher
        return Stream(
            self.extractor,
            pool,
            chosen.second if isinstance(chosen, MixedMatcher) else chosen,
            self.vocoder,
            None if self.same_frames else self.analysis,
            self._prosody(voice, pool, pitch),
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

    def _check_options(self, pitch: str | float, speed: float, loudness: float | None) -> None:
        check_pitch(pitch, self.layout is not None)
        check_range("speed", speed, 0.25, 4)
        check_range("loudness", 0 if loudness is None else loudness, -70, 0)

    def _encoded(self, source: Source | EncodedSource) -> EncodedSource:
        encoded = source if isinstance(source, EncodedSource) else self.encode(source)
        if encoded.specs != (self.extractor.spec, dict(self.analysis.feature_spec)):
            raise ValueError("this source was encoded by another converter; encode it with this one.")
        return encoded

    def _prosody(
        self, voice: Voice, pool: Pool, pitch: str | float, source: EncodedSource | None = None
    ) -> ProsodyTransfer | None:
        """Return the prosody of a source, observed as a whole; None if the vocoder takes none."""
        if self.layout is None:
            return None
        prosody = ProsodyTransfer(self.layout, voice.pitch, pool.synthesis, pitch)
        if source is not None:
            for chunk in source.vocoder_frames():
                prosody.observe(chunk)
        return prosody

    def _analyze(self, source: EncodedSource, frames: int) -> tuple[Iterator[Tensor], Iterator[Tensor]]:
        """Return query frames and the vocoder's frames of a source, stretched to this number and on the device."""
        streams = source.query_frames(), source.vocoder_frames()
        query, own = (stretch(chunks, source.frames, frames) for chunks in streams)
        return self._to_device(query), self._to_device(own)

    def _to_device(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        return (chunk.to(self.extractor.device) for chunk in chunks)

    def _synthesize(self, frames: Iterable[Tensor], samples: int) -> Tensor:
        """Return the waveform of frames, cut to a number of samples at 16 kHz."""
        wav = synthesize(self.vocoder, frames, samples / SAMPLE_RATE)
        return wav[: round(samples * self.sample_rate / SAMPLE_RATE)]

    def _result(
        self, wav: Tensor, voice: Voice, choice: Choice | None, stats: ConversionStats, note: str | None
    ) -> ConversionResult:
        coverage = quality.coverage(stats.distance, voice.findings)
        return ConversionResult(
            wav=wav,
            sample_rate=self.sample_rate,
            matcher=choice.name if choice else "none",
            reason=choice.reason if choice else "blend is 0, so these are the source's own frames.",
            distance=float(stats.distance.mean()) if len(stats.distance) else None,
            coverage=coverage,
            jump=stats.output_jump.value,
            source_jump=stats.query_jump.value if self.same_frames and choice else None,
            warnings=(*quality.warnings(voice, coverage), *([note] if note else [])),
        )
