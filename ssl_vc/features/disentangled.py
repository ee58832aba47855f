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
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.features.cepstra import loudest, shrunk_mean
from ssl_vc.features.extractor import Extractor
from ssl_vc.features.layout import FeatureSpec, FrameLayout
from ssl_vc.features.time_stretch import Regroup
from ssl_vc.features.waveform import Waveform, WaveformFile, pad_end
from vocoder.mel import Mel, MelConfig
from vocoder.pitch import interpolate_log_f0, track_pitch

KIND = "spoken"
HALVES = 2  # of a frame
BLOCK = 1500  # frames of a long clip whose spectra are computed at a time
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

    def to(self, device: str | torch.device) -> None:
        """Move the extractor and the spectrogram to a device."""
        self.mel.to(self.extractor.to(device).device)

    @property
    def feature_spec(self) -> dict[str, Any]:
        """What these features are, as vocoders check it."""
        dim = 3 + self.content + (HALVES + 1) * self.mel.dim
        return self.extractor.spec.feature_spec | {"kind": KIND, "dim": dim, "bands": self.mel.dim}

    def __call__(self, wav: Tensor) -> Iterator[Tensor]:
        """Yield the frames of a 16 kHz waveform (samples,) in chunks (frames, dim), one frame per hop."""
        return self.from_ssl(wav, self.extractor.stream(wav, every_hop=True))

    @torch.no_grad()
    def from_ssl(self, wav: Waveform, ssl_frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the same from the extractor's frames of the waveform, in chunks (frames, dim)."""
        padded = pad_end(wav, -len(wav) % self.extractor.hop_length)
        blocks = self._blocks(padded)
        timbre = _timbre(blocks, self.mel.dim)
        f0 = track_pitch(padded, SAMPLE_RATE, self.extractor.hop_length)
        pitch = torch.stack([interpolated_log_f0(f0), (f0 > 0).float()], 1)
        spectra, start = Regroup(torch.cat([loudness[:, None], envelope], 1) for loudness, envelope in blocks), 0
        for content in content_features(self.extractor, ssl_frames):
            count = len(content)
            loudness, envelope = spectra.take(count).tensor_split((1,), dim=1)
            yield torch.cat([pitch[start : start + count], loudness, content, envelope, timbre.expand(count, -1)], 1)
            start += count

    @torch.no_grad()
    def spectra(self, padded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return loudness (frames,), envelope (frames, 2 * bands) and timbre (bands,) of whole hops (samples,)."""
        loudness, envelope = self._block(padded)
        return loudness, envelope, _timbre([(loudness, envelope)], self.mel.dim)

    def _blocks(self, padded: Waveform) -> Iterable[tuple[Tensor, Tensor]]:
        """Return loudness and envelope of a waveform in one block, or of a long one in several."""
        if isinstance(padded, Tensor):
            return [self._block(padded)]
        return _Blocks(self._block, padded, self.extractor.hop_length)

    def _block(self, padded: Tensor) -> tuple[Tensor, Tensor]:
        device = next(self.mel.buffers()).device
        spectra = self.mel(padded[None].to(device))[0].cpu().view(-1, HALVES * self.mel.dim)
        loudness = spectra.logsumexp(1) - math.log(spectra.shape[1])
        return loudness, spectra - loudness[:, None]


class _Blocks:
    """Loudness and envelope of a long waveform, block by block; computed whenever they are iterated over, not held."""

    def __init__(self, compute: Callable[[Tensor], tuple[Tensor, Tensor]], wav: WaveformFile, hop: int) -> None:
        self._compute, self._wav, self._hop = compute, wav, hop

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self._wav) // self._hop, BLOCK):
            before = min(start, 1)  # a spectrum's window reaches into the next hop, on both sides
            wav = self._wav[(start - before) * self._hop : (start + BLOCK + 1) * self._hop]
            loudness, envelope = self._compute(wav)
            yield loudness[before : before + BLOCK], envelope[before : before + BLOCK]


def _timbre(blocks: Iterable[tuple[Tensor, Tensor]], bands: int) -> Tensor:
    """Return the mean envelope (bands,) of a clip's louder frames."""
    loud = loudest(torch.cat([loudness for loudness, _ in blocks]))
    total, start = torch.zeros(bands), 0
    for loudness, envelope in blocks:
        here = loud[(loud >= start) & (loud < start + len(loudness))] - start
        total += envelope[here].view(-1, bands).sum(0)
        start += len(loudness)
    return total / (HALVES * len(loud))


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
