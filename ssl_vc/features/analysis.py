"""Analysis and resynthesis: the features that a vocoder reads, computed in bounded memory, and waveforms from them."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import soxr
import torch
from torch import Tensor
from torch.nn.functional import pad

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.features.disentangled import KIND, DisentangledAnalysis, disentangled_layout
from ssl_vc.features.extractor import Extractor
from ssl_vc.features.layout import FeatureSpec, FrameLayout, world_layout
from vocoder.mel import Mel, Mfcc, mel_config_from
from vocoder.network import NeuralVocoder
from vocoder.protocol import Vocoder, check_features
from vocoder.world import World

BLOCK = 3000  # spectrogram frames computed at a time
LONGEST = 600  # seconds, for a vocoder that takes a clip in one piece


class Analysis(NamedTuple):
    """How a waveform becomes frames.

    Attributes:
        frames: maps a 16 kHz waveform (samples,) to chunks (frames, dim), one frame per hop.
        feature_spec: what the features are, as vocoders check it; `sample_rate` and `hop_length` set the frame rate.
        note: a short description.
        frames_from_query: the same for a waveform whose query frames are known, where the features include them.
    """

    frames: Callable[[Tensor], Iterable[Tensor]]
    feature_spec: FeatureSpec
    note: str = ""
    frames_from_query: Callable[[Tensor, Iterable[Tensor]], Iterable[Tensor]] | None = None

    def compute(self, wav: Tensor, query: Tensor) -> Tensor:
        """Return the frames of a waveform (samples,) whose query frames are known, on the CPU."""
        chunks = self.frames_from_query(wav, [query]) if self.frames_from_query else self.frames(wav)
        return torch.cat([chunk.cpu() for chunk in chunks])

    def require(self, vocoder: Vocoder, what: str) -> None:
        """Refuse a vocoder that reads other features or has another frame rate."""
        check_features(vocoder.reads, self.feature_spec, what)
        rate, hop = self.feature_spec["sample_rate"], self.feature_spec["hop_length"]
        if vocoder.hop_length * rate != hop * vocoder.sample_rate:
            raise ValueError(
                f"a frame of {what} is {1000 * hop / rate:g} ms long, and this vocoder generates "
                f"{1000 * vocoder.hop_length / vocoder.sample_rate:g} ms per frame; choose another vocoder."
            )


def ssl_analysis(extractor: Extractor, name: str = "encoder") -> Analysis:
    """Return the analysis by one layer of an encoder."""
    spec = extractor.spec
    return Analysis(lambda wav: extractor.stream(wav, every_hop=True), spec.feature_spec, f"{name}, layer {spec.layer}")


def world_analysis(vocoder: World) -> Analysis:
    """Return WORLD's analysis."""

    def frames(wav: Tensor) -> list[Tensor]:
        return [vocoder.analyze(_pad_to_hop(_resample(wav, vocoder.sample_rate), vocoder.hop_length))]

    return Analysis(frames, vocoder.reads)


def spectral_analysis(features: Mel | Mfcc, then: Callable[[Tensor], Tensor] = lambda frames: frames) -> Analysis:
    """Return the analysis by mel spectrograms or MFCC, on their device.

    Args:
        features: the transform.
        then: applied to the frames.
    """
    config = features.config

    @torch.no_grad()
    def frames(wav: Tensor) -> Iterator[Tensor]:
        hops = _pad_to_hop(_resample(wav, config.sample_rate), config.hop_length).view(-1, config.hop_length)
        context = -(-config.n_fft // config.hop_length)
        device = next(features.buffers()).device
        for start in range(0, len(hops), BLOCK):
            before = min(start, context)
            block = features(hops[start - before : start + BLOCK + context].flatten()[None].to(device))
            last = start + BLOCK >= len(hops)  # with `center`, the last block has one frame more
            yield then(block[:, before : None if last else before + BLOCK])[0]

    name = "coefficients" if isinstance(features, Mfcc) else "bands"
    return Analysis(frames, features.reads, f"{features.dim} {name}")


def disentangled_analysis(extractor: Extractor) -> Analysis:
    """Return the analysis into pitch, voicing, loudness, content and spectrum; see `ssl_vc.features.disentangled`."""
    analyze = DisentangledAnalysis(extractor)
    note = f"layer {extractor.spec.layer}, spectrum and pitch"
    return Analysis(analyze, analyze.feature_spec, note, analyze.from_ssl)


def layout_of(vocoder: Vocoder) -> FrameLayout | None:
    """Return the layout of the frames that a vocoder reads; None if pitch has no columns of its own."""
    if isinstance(vocoder, World):
        return world_layout(vocoder)
    return disentangled_layout(vocoder.reads) if vocoder.reads.get("kind") == KIND else None


def analysis_for(vocoder: Vocoder, *extractors: Extractor) -> Analysis:
    """Return the analysis that a vocoder needs, by one of the extractors, a spectrogram or WORLD."""
    reads, device = vocoder.reads, extractors[0].device
    kind = reads.get("kind")
    if isinstance(vocoder, World):
        analysis = world_analysis(vocoder)
    elif kind == "mel":
        analysis = spectral_analysis(Mel(mel_config_from(reads)).to(device))
    elif kind == "mfcc":
        analysis = spectral_analysis(Mfcc(mel_config_from(reads), vocoder.dim).to(device))
    elif kind == KIND:
        analysis = disentangled_analysis(extractors[0])
    elif kind == "ssl":
        fitting = [each for each in extractors if reads.items() <= each.spec.feature_spec.items()]
        analysis = ssl_analysis((fitting or extractors)[0])
    else:
        raise ValueError(
            f"this vocoder reads {kind or 'unknown'} features; conversion supports ssl, spoken, mel, mfcc and world."
        )
    analysis.require(vocoder, f"this {kind} analysis")
    _require_frame_rate(vocoder, extractors[0])
    return analysis


def _require_frame_rate(vocoder: Vocoder, extractor: Extractor) -> None:
    spec = extractor.spec
    if vocoder.hop_length * spec.sample_rate != spec.hop_length * vocoder.sample_rate:
        raise ValueError(
            f"this vocoder generates {1000 * vocoder.hop_length / vocoder.sample_rate:g} ms per frame, and a query "
            f"frame lasts {1000 * spec.hop_length / spec.sample_rate:g} ms; choose another vocoder."
        )


def synthesize(vocoder: Vocoder, chunks: Iterable[Tensor], seconds: float) -> Tensor:
    """Return the waveform (samples,) of a clip's frames, in bounded memory where the vocoder allows it.

    Args:
        vocoder: generates the waveform.
        chunks: the frames in order, (frames, dim) each.
        seconds: expected duration.
    """
    if isinstance(vocoder, NeuralVocoder | World):
        return _joined(vocoder.stream(chunks), round(seconds * vocoder.sample_rate) + vocoder.hop_length)
    if seconds > LONGEST:
        raise ValueError(
            f"the clip is {seconds / 60:.0f} minutes long, and this vocoder takes it in one piece; cut it into parts "
            f"of at most {LONGEST // 60} minutes, or use world, hifigan, vocos or bigvgan."
        )
    return vocoder(torch.cat(list(chunks))[None])[0].cpu()


def _joined(pieces: Iterable[Tensor], expected: int) -> Tensor:
    """Concatenate pieces (samples,), expected to be so long together, without holding all of them twice."""
    wav, end = torch.empty(expected), 0
    for piece in pieces:
        if end + len(piece) > len(wav):
            wav = torch.cat([wav[:end], torch.empty(end + len(piece))])
        wav[end : end + len(piece)] = piece
        end += len(piece)
    return wav[:end]


def _resample(wav: Tensor, rate: int) -> Tensor:
    return wav if rate == SAMPLE_RATE else torch.from_numpy(soxr.resample(wav.numpy(), SAMPLE_RATE, rate))


def _pad_to_hop(wav: Tensor, hop: int) -> Tensor:
    """Pad the last hop with zeros."""
    return pad(wav, (0, -len(wav) % hop))
