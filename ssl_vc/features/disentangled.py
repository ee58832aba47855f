"""Spoken frames: all that a vocoder should know to say a source's words in a target's voice, side by side.

    | pitch | voicing | loudness | content | envelope | timbre |
      the source's own .....................| the target's ....|

The envelope is a log-mel spectrum of each half of the frame, less the loudness, which is the logarithm of the mean over
both; the timbre is the mean envelope of a clip's louder frames; the content is what an encoder hears, less the clip's
mean and with it who speaks. In a conversion envelope and timbre come from the target's frames that were chosen (see
`ssl_vc.conversion.prosody`), so a vocoder has the voice from the target, and what is said also from the source, should
its neighbours be wrong.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.features.cepstra import loudest, mean_of
from ssl_vc.features.extractor import Extractor
from ssl_vc.features.layout import Parts
from vocoder.mel import Mel, MelConfig
from vocoder.pitch import log_through_unvoiced, track_pitch

KIND = "spoken"
HALVES = 2  # of a frame
MEL = MelConfig(n_fft=400, hop_length=160)  # 25 ms, which keep apart what 64 ms smear


class Speech:
    """Makes spoken frames.

    Args:
        extractor: what hears the content. Its cepstra, if it has any, are left out.
    """

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self.mel = Mel(MEL).to(extractor.device)
        self.content = extractor.encoder.config.dim

    @property
    def made_by(self) -> dict[str, Any]:
        """What vocoders call these frames."""
        dim = 3 + self.content + (HALVES + 1) * self.mel.dim
        return self.extractor.spec.facts | {"kind": KIND, "dim": dim, "bands": self.mel.dim}

    def __call__(self, wav: Tensor) -> Iterator[Tensor]:
        """Give the frames of a 16 kHz wav (samples,) in pieces (some frames, dim), one for every hop."""
        return self.around(wav, self.extractor.stream(wav, every_hop=True))

    @torch.no_grad()
    def around(self, wav: Tensor, heard: Iterable[Tensor]) -> Iterator[Tensor]:
        """Do the same where the extractor's frames of the wav are known, in pieces (some frames, dim)."""
        whole = pad(wav, (0, -len(wav) % self.extractor.hop_length))
        loudness, envelope, timbre = self.spectra(whole)
        pitch = track_pitch(whole.cpu(), SAMPLE_RATE, self.extractor.hop_length)
        melody = torch.stack([through_unvoiced(pitch), (pitch > 0).float(), loudness], 1)
        start = 0
        for piece in content_of(self.extractor, heard):
            own = slice(start, start + len(piece))
            start = own.stop
            yield torch.cat([melody[own], piece, envelope[own], timbre.expand(len(piece), -1)], 1)

    @torch.no_grad()
    def spectra(self, whole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give loudness (frames,), envelope (frames, 2 * bands) and timbre (bands,) of whole hops (samples,)."""
        spectra = self.mel(whole[None].to(self.extractor.device))[0].cpu().view(-1, HALVES * self.mel.dim)
        loudness = spectra.logsumexp(1) - math.log(spectra.shape[1])
        envelope = spectra - loudness[:, None]
        return loudness, envelope, envelope[loudest(loudness)].view(-1, self.mel.dim).mean(0)


def content_of(extractor: Extractor, heard: Iterable[Tensor]) -> Iterator[Tensor]:
    """Give what an encoder hears less the clip's mean, of variance 1; beside cepstra its length is 1 already."""
    dim = extractor.encoder.config.dim
    if not extractor.spec.cepstra:
        frames = torch.cat(list(heard))
        heard = [normalize(frames - mean_of(frames.sum(0), len(frames)), dim=1)]
    for piece in heard:
        yield dim**0.5 * piece[:, :dim].cpu()


def parts_of(reads: Mapping[str, Any]) -> Parts:
    """Tell where the parts of the spoken frames are that a vocoder reads."""
    dim, bands = reads["dim"], reads["bands"]
    envelope = slice(dim - (HALVES + 1) * bands, dim - bands)
    return Parts(slice(0, 1), slice(1, 2), slice(2, 3), envelope, slice(3, envelope.start))


def through_unvoiced(pitch: Tensor) -> Tensor:
    """Give the logarithm of a pitch in Hz (frames,), interpolated where it is 0."""
    return torch.from_numpy(log_through_unvoiced(pitch.double().numpy(), (pitch > 0).numpy())).to(pitch.dtype)
