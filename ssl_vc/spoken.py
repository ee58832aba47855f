"""Spoken frames: all that a vocoder should know to say a source's words in a target's voice, side by side.

    | pitch | voicing | loudness | content | envelope | timbre |
      the source's own .....................| the target's ....|

The envelope is a log-mel spectrum less its mean, which is the loudness; the timbre is the mean envelope of a clip's
louder frames; the content is what an encoder hears, less the clip's mean and with it who speaks. In a conversion
envelope and timbre come from the target's frames that were chosen (see `ssl_vc.melody`), so a vocoder has the voice
from the target, and what is said also from the source, should its neighbours be wrong.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.cepstra import loudest, mean_of
from ssl_vc.extract import Extractor
from ssl_vc.melody import Parts
from vocoder.mel import Mel
from vocoder.pitch import log_through_unvoiced, track_pitch

KIND = "spoken"


class Speech:
    """Makes spoken frames.

    Args:
        extractor: what hears the content. Its cepstra, if it has any, are left out.
    """

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self.mel = Mel().to(extractor.device)
        self.content = extractor.encoder.config.dim

    @property
    def made_by(self) -> dict[str, Any]:
        """What vocoders call these frames."""
        dim = 3 + self.content + 2 * self.mel.dim
        return self.extractor.spec.facts | {"kind": KIND, "dim": dim, "bands": self.mel.dim}

    def __call__(self, wav: Tensor) -> Iterator[Tensor]:
        """Give the frames of a 16 kHz wav (samples,) in pieces (some frames, dim), one for every hop."""
        return self.around(wav, self.extractor.stream(wav, every_hop=True))

    @torch.no_grad()
    def around(self, wav: Tensor, heard: Iterable[Tensor]) -> Iterator[Tensor]:
        """Do the same where the extractor's frames of the wav are known, in pieces (some frames, dim)."""
        hop = self.extractor.hop_length
        whole = pad(wav, (0, -len(wav) % hop))
        spectrum = self.mel(whole[None].to(self.extractor.device))[0].cpu()
        loudness = spectrum.mean(1, keepdim=True)
        envelope = spectrum - loudness
        timbre = envelope[loudest(loudness[:, 0])].mean(0)
        pitch = track_pitch(whole.cpu(), SAMPLE_RATE, hop)
        melody = torch.stack([through_unvoiced(pitch), (pitch > 0).float(), loudness[:, 0]], 1)
        start = 0
        for piece in self._content(heard):
            own = slice(start, start + len(piece))
            start = own.stop
            yield torch.cat([melody[own], piece, envelope[own], timbre.expand(len(piece), -1)], 1)

    def _content(self, heard: Iterable[Tensor]) -> Iterator[Tensor]:
        """Give frames without the clip's mean, of variance 1; what stands beside cepstra has length 1 already."""
        if not self.extractor.spec.cepstra:
            frames = torch.cat(list(heard))
            heard = [normalize(frames - mean_of(frames.sum(0), len(frames)), dim=1)]
        for piece in heard:
            yield self.content**0.5 * piece[:, : self.content].cpu()


def parts_of(reads: Mapping[str, Any]) -> Parts:
    """Tell where the parts of the spoken frames are that a vocoder reads."""
    dim, bands = reads["dim"], reads["bands"]
    envelope = slice(dim - 2 * bands, dim - bands)
    return Parts(slice(0, 1), slice(1, 2), slice(2, 3), envelope, slice(3, envelope.start))


def through_unvoiced(pitch: Tensor) -> Tensor:
    """Give the logarithm of a pitch in Hz (frames,), interpolated where it is 0."""
    return torch.from_numpy(log_through_unvoiced(pitch.double().numpy(), (pitch > 0).numpy())).to(pitch.dtype)
