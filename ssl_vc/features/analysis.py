"""Features: what vocoders read, taken from a sound in pieces, and sound made of them again."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import soxr
import torch
from torch import Tensor
from torch.nn.functional import pad

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.features.disentangled import KIND, Speech
from ssl_vc.features.disentangled import parts_of as spoken_parts
from ssl_vc.features.extractor import Extractor
from ssl_vc.features.layout import Parts, world_parts
from vocoder.mel import Mel, Mfcc, mel_read
from vocoder.network import NeuralVocoder
from vocoder.protocol import Vocoder, require
from vocoder.world import World

BLOCK = 3000  # frames of a spectrogram made at a time
LONGEST = 600  # seconds for a vocoder that takes a clip in one piece


class Analysis(NamedTuple):
    """How a wav becomes frames.

    Attributes:
        frames: gives the frames of a 16 kHz wav (samples,) in pieces (some frames, dim), one for every hop.
        made_by: the features' make, as vocoders check it; its `sample_rate` and `hop_length` say how long a frame is.
        note: what is worth knowing of them.
        around: gives the same of a wav whose matched frames are known, where they are a part of them.
    """

    frames: Callable[[Tensor], Iterable[Tensor]]
    made_by: Mapping[str, Any]
    note: str = ""
    around: Callable[[Tensor, Iterable[Tensor]], Iterable[Tensor]] | None = None

    def beside(self, wav: Tensor, matched: Tensor) -> Tensor:
        """Give the frames of a wav (samples,) whose matched frames are known, on the CPU."""
        pieces = self.around(wav, [matched]) if self.around else self.frames(wav)
        return torch.cat([piece.cpu() for piece in pieces])

    def require(self, vocoder: Vocoder, what: str) -> None:
        """Refuse a vocoder that does not read these features, or makes another time of them."""
        require(vocoder.reads, self.made_by, what)
        rate, hop = self.made_by["sample_rate"], self.made_by["hop_length"]
        if vocoder.hop_length * rate != hop * vocoder.sample_rate:
            raise ValueError(
                f"a frame of {what} is {1000 * hop / rate:g} ms long, and this vocoder makes "
                f"{1000 * vocoder.hop_length / vocoder.sample_rate:g} ms of it; take another vocoder."
            )


def ssl_frames(extractor: Extractor, name: str = "encoder") -> Analysis:
    """Frames of an encoder's layer."""
    spec = extractor.spec
    return Analysis(lambda wav: extractor.stream(wav, every_hop=True), spec.facts, f"{name}, layer {spec.layer}")


def world_frames(vocoder: World) -> Analysis:
    """WORLD's frames."""

    def frames(wav: Tensor) -> list[Tensor]:
        return [vocoder.analyze(_whole(_at_rate(wav, vocoder.sample_rate), vocoder.hop_length))]

    return Analysis(frames, vocoder.reads)


def spectral_frames(features: Mel | Mfcc, then: Callable[[Tensor], Tensor] = lambda frames: frames) -> Analysis:
    """Mel spectrograms or MFCC, on the device where they are.

    Args:
        features: which ones.
        then: what is made of them, frame by frame.
    """
    config = features.config

    @torch.no_grad()
    def frames(wav: Tensor) -> Iterator[Tensor]:
        hops = _whole(_at_rate(wav, config.sample_rate), config.hop_length).view(-1, config.hop_length)
        context = -(-config.n_fft // config.hop_length)
        device = next(features.buffers()).device
        for start in range(0, len(hops), BLOCK):
            before = min(start, context)
            part = features(hops[start - before : start + BLOCK + context].flatten()[None].to(device))
            last = start + BLOCK >= len(hops)  # to which, with `center`, belongs one frame more
            yield then(part[:, before : None if last else before + BLOCK])[0]

    name = "coefficients" if isinstance(features, Mfcc) else "bands"
    return Analysis(frames, features.reads, f"{features.dim} {name}")


def spoken_frames(extractor: Extractor) -> Analysis:
    """What is said, and how, for vocoders that take a melody; see `ssl_vc.features.disentangled`."""
    speech = Speech(extractor)
    return Analysis(speech, speech.made_by, f"layer {extractor.spec.layer}, spectrum and pitch", speech.around)


def parts_of(vocoder: Vocoder) -> Parts | None:
    """Tell where pitch and the like are in the frames that a vocoder reads; None if they are nowhere by themselves."""
    if isinstance(vocoder, World):
        return world_parts(vocoder)
    return spoken_parts(vocoder.reads) if vocoder.reads.get("kind") == KIND else None


def read_by(vocoder: Vocoder, *extractors: Extractor) -> Analysis:
    """Give the features that a vocoder reads: frames of one of the extractors, a spectrogram, or WORLD's."""
    reads, device = vocoder.reads, extractors[0].device
    kind = reads.get("kind")
    if isinstance(vocoder, World):
        analysis = world_frames(vocoder)
    elif kind == "mel":
        analysis = spectral_frames(Mel(mel_read(reads)).to(device))
    elif kind == "mfcc":
        analysis = spectral_frames(Mfcc(mel_read(reads), vocoder.dim).to(device))
    elif kind == KIND:
        analysis = spoken_frames(extractors[0])
    elif kind == "ssl":
        fitting = [each for each in extractors if reads.items() <= each.spec.facts.items()]
        analysis = ssl_frames((fitting or extractors)[0])
    else:
        raise ValueError(
            f"this vocoder reads {kind or 'unknown'} features; conversion knows ssl, spoken, mel, mfcc and world."
        )
    analysis.require(vocoder, f"{kind} of this make")
    spec = extractors[0].spec
    if vocoder.hop_length * spec.sample_rate != spec.hop_length * vocoder.sample_rate:
        raise ValueError(
            f"this vocoder makes {1000 * vocoder.hop_length / vocoder.sample_rate:g} ms of a frame, and one that is "
            f"matched lasts {1000 * spec.hop_length / spec.sample_rate:g} ms; take another vocoder."
        )
    return analysis


def synthesize(vocoder: Vocoder, pieces: Iterable[Tensor], seconds: float) -> Tensor:
    """Give the sound (samples,) of a clip's frames, in bounded memory where the vocoder can.

    Args:
        vocoder: what makes it.
        pieces: the frames in order, (some frames, dim) each.
        seconds: how long the sound will be.
    """
    if isinstance(vocoder, NeuralVocoder | World):
        return torch.cat(list(vocoder.stream(pieces)))
    if seconds > LONGEST:
        raise ValueError(
            f"the sound is {seconds / 60:.0f} minutes long, and this vocoder takes it in one piece; cut it into parts "
            f"of at most {LONGEST // 60} minutes, or take world, hifigan, vocos or bigvgan."
        )
    return vocoder(torch.cat(list(pieces))[None])[0].cpu()


def _at_rate(wav: Tensor, rate: int) -> Tensor:
    return wav if rate == SAMPLE_RATE else torch.from_numpy(soxr.resample(wav.numpy(), SAMPLE_RATE, rate))


def _whole(wav: Tensor, hop: int) -> Tensor:
    """Fill up the last hop with silence."""
    return pad(wav, (0, -len(wav) % hop))
