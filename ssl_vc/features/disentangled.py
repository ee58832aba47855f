"""Disentangled frames: prosody, content and spectrum side by side, so that a vocoder can recombine two speakers.

    | pitch | voicing | loudness | content | envelope | timbre |
      from the source .....................| from the target ..|

The envelope is a log-mel spectrum of each half of the frame, less the loudness, which is the log mean over both. The
timbre is the mean envelope of a clip's louder frames. The content is an encoder's output less the clip's mean, which
carries the speaker. In a conversion envelope and timbre come from the matched frames (see `ssl_vc.conversion.prosody`),
so the vocoder has the voice from the target, and the source's own content where the neighbours are wrong.

Files call these features "spoken".
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.features.cepstra import loudest, shrunk_mean
from ssl_vc.features.extractor import Extractor
from ssl_vc.features.layout import FeatureSpec, FrameLayout
from vocoder.mel import Mel, MelConfig
from vocoder.pitch import interpolate_log_f0, track_pitch

KIND = "spoken"
HALVES = 2  # of a frame
MEL = MelConfig(n_fft=400, hop_length=160)  # 25 ms windows resolve what 64 ms smear


class DisentangledAnalysis:
    """Compute disentangled frames.

    Args:
        extractor: computes the content. Its cepstra, if it has any, are left out.
    """

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self.mel = Mel(MEL).to(extractor.device)
        self.content = extractor.encoder.config.dim

    @property
    def feature_spec(self) -> dict[str, Any]:
        """What these features are, as vocoders check it."""
        dim = 3 + self.content + (HALVES + 1) * self.mel.dim
        return self.extractor.spec.feature_spec | {"kind": KIND, "dim": dim, "bands": self.mel.dim}

    def __call__(self, wav: Tensor) -> Iterator[Tensor]:
        """Yield the frames of a 16 kHz waveform (samples,) in chunks (frames, dim), one frame per hop."""
        return self.from_ssl(wav, self.extractor.stream(wav, every_hop=True))

    @torch.no_grad()
    def from_ssl(self, wav: Tensor, ssl_frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the same from the extractor's frames of the waveform, in chunks (frames, dim)."""
        padded = pad(wav, (0, -len(wav) % self.extractor.hop_length))
        loudness, envelope, timbre = self.spectra(padded)
        f0 = track_pitch(padded.cpu(), SAMPLE_RATE, self.extractor.hop_length)
        prosody = torch.stack([interpolated_log_f0(f0), (f0 > 0).float(), loudness], 1)
        start = 0
        for content in content_features(self.extractor, ssl_frames):
            rows = slice(start, start + len(content))
            start = rows.stop
            yield torch.cat([prosody[rows], content, envelope[rows], timbre.expand(len(content), -1)], 1)

    @torch.no_grad()
    def spectra(self, padded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return loudness (frames,), envelope (frames, 2 * bands) and timbre (bands,) of whole hops (samples,)."""
        spectra = self.mel(padded[None].to(self.extractor.device))[0].cpu().view(-1, HALVES * self.mel.dim)
        loudness = spectra.logsumexp(1) - math.log(spectra.shape[1])
        envelope = spectra - loudness[:, None]
        return loudness, envelope, envelope[loudest(loudness)].view(-1, self.mel.dim).mean(0)


def content_features(extractor: Extractor, ssl_frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield an encoder's frames less the clip's mean, with unit variance; with cepstra they are normalised already."""
    dim = extractor.encoder.config.dim
    if not extractor.spec.cepstra:
        frames = torch.cat(list(ssl_frames))
        ssl_frames = [normalize(frames - shrunk_mean(frames.sum(0), len(frames)), dim=1)]
    for chunk in ssl_frames:
        yield dim**0.5 * chunk[:, :dim].cpu()


def disentangled_layout(spec: FeatureSpec) -> FrameLayout:
    """Return the layout of disentangled frames of this spec."""
    dim, bands = spec["dim"], spec["bands"]
    envelope = slice(dim - (HALVES + 1) * bands, dim - bands)
    return FrameLayout(slice(0, 1), slice(1, 2), slice(2, 3), envelope, slice(3, envelope.start))


def interpolated_log_f0(f0: Tensor) -> Tensor:
    """Return log F0 of a track in Hz (frames,), interpolated where it is 0."""
    return torch.from_numpy(interpolate_log_f0(f0.double().numpy(), (f0 > 0).numpy())).to(f0.dtype)
