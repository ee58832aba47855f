"""UnitCodec: waveforms to discrete units and back, in the same voice or another.

    wav -> encoder -> content -> nearest of K centres -> ids ---------------.
        -> F0 -> codes at 12.5 Hz ------------------------------------------+-> frames -> vocoder -> wav
        -> mean envelope and median F0: the voice (or another's) -----------'

Polyak, Adi, Copet, Kharitonov, Lakhotia, Hsu, Mohamed and Dupoux, 2021, "Speech Resynthesis from Discrete Disentangled
Self-Supervised Representations", arXiv 2104.00355. Here speakers are represented by their averages instead of learned
embeddings, so that unseen ones need no training, and the vocoder is excited by pulses at F0.
"""

import logging
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pretrain import SpeechEncoder
from ssl_vc.audio import SAMPLE_RATE, Source, read
from ssl_vc.features.analysis import synthesize
from ssl_vc.features.disentangled import KIND as DISENTANGLED
from ssl_vc.features.disentangled import disentangled_layout, interpolated_log_f0
from ssl_vc.features.extractor import Extractor
from ssl_vc.hub.registry import BUNDLED, load_encoder
from ssl_vc.limiter import master
from ssl_vc.loudness import LOUDNESS
from ssl_vc.match.knn import KNN
from ssl_vc.match.protocol import Pool
from ssl_vc.units import f0_codes
from ssl_vc.units.analyzer import CHUNK, UnitAnalyzer
from ssl_vc.units.codebook import FILE, Codebook, run_length_encode
from ssl_vc.units.file import BYTES, LONGEST_RUN, Layout, Units
from ssl_vc.voice.voice import Voice
from vocoder.kinds import load
from vocoder.pitch import DEFAULT_F0, voiced_median
from vocoder.protocol import Vocoder, check_features

log = logging.getLogger(__name__)

PITCHES = ("codes", "bytes", "none")
CONTEXT_WEIGHTS = (0.1, 0.2, 0.4, 0.2, 0.1)  # of neighbouring centres in unit selection


class UnitCodec:
    """Encodes waveforms as units, and decodes them.

    Args:
        analyzer: extracts the features that units are made of.
        vocoder: of frames of units.
    """

    def __init__(self, analyzer: UnitAnalyzer, vocoder: Vocoder) -> None:
        self.analyzer, self.codebook, self.vocoder = analyzer, analyzer.codebook, vocoder
        check_features(vocoder.reads, analyzer.feature_spec, "units of this codec")

    def __repr__(self) -> str:
        book, extractor = self.codebook, self.analyzer.extractor
        vocoder = f"{type(self.vocoder).__name__} at {self.vocoder.sample_rate} Hz"
        return f"UnitCodec({book.fingerprint}, {book.clusters} units, {extractor!r}, vocoder {vocoder})"

    def to(self, device: str | torch.device) -> Self:
        """Move encoder and vocoder to a device, and return the codec."""
        self.analyzer.analysis.to(device)
        if isinstance(self.vocoder, torch.nn.Module):
            self.vocoder.to(self.analyzer.extractor.device)
        return self

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
            name: `tiny` (bundled), or the folder of a codec trained by `ssl-vc train-units`.
            encoder: the one that the codec was trained on; see `ssl_vc.hub.registry.load_encoder`.
            device: auto, cpu, cuda, cuda:1 ... or mps.
            offline: use local files only.
        """
        folder = BUNDLED / "tiny" / "units" if name == "tiny" else Path(name)
        if not is_codec(folder):
            raise ValueError(f"there is no codec at {str(name)!r}; use 'tiny', or one trained by `ssl-vc train-units`.")
        codebook, vocoder = Codebook.load(folder / FILE), load(str(folder / "vocoder"))
        network = load_encoder(encoder, offline=offline) if isinstance(encoder, str) else encoder
        extractor = Extractor(network, codebook.encoder_spec.get("layer"), device=device)
        analyzer = UnitAnalyzer(extractor, codebook, vocoder.reads.get("form", "shares"))
        return cls(analyzer, vocoder.to(extractor.device))

    def encode(self, source: Source, *, layout: Layout = "runs", pitch: str = "codes", voice: bool = True) -> Units:
        """Returns the units of a source.

        Args:
            source: see `ssl_vc.read`.
            layout: `frames`, `runs` or `ids`: see `ssl_vc.units.file`.
            pitch: `codes`, `bytes` (one per frame), or `none`.
            voice: whether to include timbre and median F0.
        """
        if pitch not in PITCHES:
            raise ValueError(f"pitch is {pitch!r}; possible are {', '.join(PITCHES)}.")
        wav = read(source, speech=True)
        features = self.analyzer.analyze(wav)
        ids = self.codebook.content(features.content)
        runs, lengths = run_length_encode(ids, LONGEST_RUN)
        levels = {"codes": self.codebook.pitch.clusters, "bytes": BYTES, "none": 0}[pitch]
        codes = None
        if pitch == "bytes":
            codes = f0_codes.encode_frames(features.f0)
        elif pitch == "codes" and layout == "ids":
            codes = f0_codes.encode_runs(features.f0, lengths, levels)
        elif pitch == "codes":
            codes = f0_codes.encode_blocks(features.f0, self.codebook.pitch)
        return Units(
            codec=self.codebook.fingerprint,
            clusters=self.codebook.clusters,
            samples=len(wav),
            ids=ids if layout == "frames" else runs,
            lengths=lengths if layout == "runs" else None,
            layout=layout,
            pitch=codes,
            pitch_levels=levels,
            median_f0=voiced_median(features.f0) if voice else 0.0,
            timbre=features.timbre if voice else None,
        )

    def decode(
        self, units: Units, voice: Voice | None = None, *, pitch: float = 0.0, loudness: float | None = LOUDNESS
    ) -> Tensor:
        """Returns the waveform (samples,) at the vocoder's rate.

        Args:
            units: of this codec.
            voice: a voice of disentangled frames (see `ssl_vc.features.disentangled`); if None, that of the units, or
                the codec's average voice.
            pitch: shift in semitones.
            loudness: in LUFS; None to leave it.
        """
        return _synthesize(self.vocoder, self._stream(units, voice, pitch), units, loudness)

    def frames(self, units: Units, voice: Voice | None = None, pitch: float = 0.0) -> Tensor:
        """Returns the vocoder's frames (frames, dim); arguments as in `decode`."""
        return torch.cat(list(self._stream(units, voice, pitch)))

    def _stream(self, units: Units, voice: Voice | None, pitch: float) -> Iterator[Tensor]:
        timbre, median_f0 = self._speaker(units, voice)
        ids, f0 = self.expand(units, median_f0 * 2 ** (pitch / 12))
        return self.analyzer.stream(ids, f0, timbre)

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
        """Returns the waveform (samples,) by unit selection: from frames of the voice with similar units in context.

        Args:
            units: of this codec.
            voice: whose frames are selected; as in `decode`.
            vocoder: of the voice's frames.
            k: number of neighbours to average.
            pitch: shift in semitones from the voice's median.
            loudness: in LUFS; None to leave it.
        """
        _, median_f0 = self._speaker(units, voice)
        ids, f0 = self.expand(units, median_f0 * 2 ** (pitch / 12))
        assert voice.synthesis is not None
        pool_frames, layout = voice.synthesis.float(), disentangled_layout(voice.feature_spec)
        pool_ids = self.codebook.content(normalize(pool_frames[:, layout.content], dim=1))
        pool_queries = torch.cat(list(self._in_context(pool_ids)))
        pool = Pool(pool_queries, pool_frames, [origin.frames for origin in voice.origins] or None)
        matches = KNN(k)(self._in_context(ids), pool)

        def frames() -> Iterator[Tensor]:
            prosody = torch.stack([interpolated_log_f0(f0), (f0 > 0).float()], 1)
            centres = self.codebook.content.centres
            for match, units, rows in zip(matches, ids.split(CHUNK), prosody.split(CHUNK), strict=True):
                chunk = match.frames.clone()
                chunk[:, layout.pitch], chunk[:, layout.voicing] = rows[:, :1], rows[:, 1:]
                chunk[:, layout.content] = centres[units] * centres.shape[1] ** 0.5
                yield chunk

        return _synthesize(vocoder, frames(), units, loudness)

    def expand(self, units: Units, median_f0: float) -> tuple[Tensor, Tensor]:
        """Returns unit and F0 of every frame, (frames,) each; the prosody predictor supplies what units lack.

        Args:
            units: of this codec.
            median_f0: of the result, in Hz.
        """
        if (units.codec, units.clusters) != (self.codebook.fingerprint, self.codebook.clusters):
            raise ValueError(
                f"these units belong to the codec {units.codec}, and this one is {self.codebook.fingerprint}; "
                "decode them with the codec that encoded them."
            )
        runs, lengths = run_length_encode(units.ids) if units.layout == "frames" else (units.ids, units.lengths)
        predicted = self.codebook.prosody.predict(runs) if units.pitch is None or units.layout == "ids" else None
        if units.layout == "ids":
            assert predicted is not None
            lengths = _fit_durations(predicted.durations, units.frames)
        assert lengths is not None
        if units.pitch is None or (units.layout == "ids" and units.pitch_levels != BYTES):
            assert predicted is not None
            log_f0, voiced = predicted.log_f0, predicted.voiced
            if units.pitch is not None:
                log_f0, voiced = f0_codes.decode_runs(units.pitch, units.pitch_levels)
            f0 = _interpolate_runs(log_f0, lengths).exp() * median_f0 * voiced.repeat_interleave(lengths)
        elif units.pitch_levels == BYTES:
            f0 = f0_codes.decode_frames(units.pitch)
            f0 = f0 * (median_f0 / voiced_median(f0))
        else:
            f0 = f0_codes.decode_blocks(units.pitch, self.codebook.pitch, median_f0, units.frames)
        return runs.repeat_interleave(lengths), f0

    def _speaker(self, units: Units, voice: Voice | None) -> tuple[Tensor, float]:
        """Returns timbre and median F0 of the target speaker."""
        if voice is None:
            return (self.codebook.timbre, DEFAULT_F0) if units.timbre is None else (units.timbre, units.median_f0)
        spec = self.analyzer.feature_spec
        wanted = {name: value for name, value in spec.items() if name not in ("kind", "codec", "form", "dim")}
        found = {name: voice.feature_spec.get(name) for name in wanted}
        if voice.feature_spec.get("kind") != DISENTANGLED or found != wanted or voice.synthesis is None:
            raise ValueError(
                f"the voice {voice.name!r} has no disentangled frames of this encoder; enroll it with the model that "
                "these units were made with."
            )
        timbre = voice.synthesis[:, -wanted["bands"] :].float().mean(0)
        return timbre, voice.pitch.median if voice.pitch else DEFAULT_F0

    def _in_context(self, ids: Tensor) -> Iterator[Tensor]:
        """Yield centres (frames, dim) smoothed over time, so that matching regards the neighbouring units too."""
        padding = len(CONTEXT_WEIGHTS) // 2
        padded = torch.cat([ids[:1].expand(padding), ids, ids[-1:].expand(padding)])
        for start in range(0, len(ids), CHUNK):
            centres = self.codebook.content.centres[padded[start : start + CHUNK + 2 * padding]]
            count = len(centres) - 2 * padding
            smoothed = sum(weight * centres[at : at + count] for at, weight in enumerate(CONTEXT_WEIGHTS))
            assert isinstance(smoothed, Tensor)
            yield smoothed


def is_codec(folder: str | PathLike[str]) -> bool:
    """Returns whether a folder holds a codec."""
    return (Path(folder) / FILE).is_file()


def bitrate(units: Units) -> dict[str, float]:
    """Returns the bits per second of content, pitch and voice, and of the content's ids at their entropy."""
    seconds = units.samples / SAMPLE_RATE
    rates = {name: len(bits) / seconds for name, bits in units.streams().items()}
    return {**rates, "entropy": entropy(torch.bincount(units.ids)) * len(units.ids) / seconds}


def entropy(counts: Tensor) -> float:
    """Returns the entropy, in bits per symbol, of symbols with these counts (symbols,)."""
    share = counts[counts > 0].double() / counts.sum()
    return float(-(share * share.log2()).sum())


def _synthesize(vocoder: Vocoder, frames: Iterable[Tensor], units: Units, loudness: float | None) -> Tensor:
    wav = synthesize(vocoder, frames, units.samples / SAMPLE_RATE)
    wav = wav[: round(units.samples * vocoder.sample_rate / SAMPLE_RATE)]
    if loudness is not None and (note := master(wav, loudness, vocoder.sample_rate)):
        log.warning(note)
    return wav


def _fit_durations(durations: Tensor, frames: int) -> Tensor:
    """Scale durations (runs,) to an exact total, each at least 1."""
    spare = frames - len(durations)  # what is left when each has its one
    ends = ((durations - 1).cumsum(0).double() * spare / max(int((durations - 1).sum()), 1)).round().long()
    ends[-1] = spare
    return 1 + ends.diff(prepend=ends.new_zeros(1))


def _interpolate_runs(values: Tensor, lengths: Tensor) -> Tensor:
    """Returns a value per frame, linear between the middles of runs."""
    middles = lengths.cumsum(0) - lengths / 2
    at = torch.arange(int(lengths.sum())) + 0.5
    return torch.from_numpy(np.interp(at.numpy(), middles.numpy(), values.numpy())).float()
