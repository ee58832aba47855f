"""Analysis of a waveform for units, and the frames that a vocoder of units reads.

A frame has one of two forms: `shares`, for any harmonic vocoder, and `numbers`, for `vocoder.unit_hifigan`:

    | log F0 | voicing | one-hot unit | timbre |          | unit | F0, 0 if unvoiced | timbre |

Soft units (van Niekerk et al., 2022, "A comparison of discrete and soft speech units for improved voice conversion",
arXiv 2111.02392, have them learned) are a softmax over the distances to the centres, in place of the one-hot unit.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot, pad

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.features.disentangled import MEL, DisentangledAnalysis, content_features, interpolated_log_f0
from ssl_vc.features.extractor import Extractor
from ssl_vc.units.codebook import Codebook
from ssl_vc.units.file import HOP
from vocoder.pitch import track_pitch

KIND = "units"
Form = Literal["shares", "numbers"]
SOFT_TEMPERATURE = 0.05  # of the softmax over squared distances


CHUNK = 4096  # frames assembled at a time


class UnitFeatures(NamedTuple):
    """Features that units are made of.

    Attributes:
        content: speaker-normalised encoder frames (frames, dim) of unit norm.
        f0: in Hz, 0 where unvoiced (frames,).
        timbre: mean envelope (bands,).
    """

    content: Tensor
    f0: Tensor
    timbre: Tensor


@torch.no_grad()
def analyze(analysis: DisentangledAnalysis, wav: Tensor) -> UnitFeatures:
    """Returns the features of a waveform (samples,) at 16 kHz."""
    whole = pad(wav, (0, -len(wav) % HOP))
    frames = analysis.extractor.stream(wav, every_hop=True)
    content = normalize(torch.cat(list(content_features(analysis.extractor, frames))), dim=1)
    return UnitFeatures(content, track_pitch(whole.cpu(), SAMPLE_RATE, HOP), analysis.spectra(whole)[2])


class UnitAnalyzer:
    """Analyses waveforms, and assembles frames of units.

    Args:
        extractor: encoder whose content was clustered.
        codebook: the centres.
        form: of the frames.
    """

    def __init__(self, extractor: Extractor, codebook: Codebook, form: Form = "shares") -> None:
        spec = {"encoder": extractor.spec.encoder, "layer": extractor.spec.layer}
        if spec != {name: codebook.encoder_spec.get(name) for name in spec}:
            wanted = codebook.encoder_spec.get("encoder")
            raise ValueError(f"these units belong to the encoder {wanted}, not to {spec['encoder']}.")
        self.analysis, self.extractor = DisentangledAnalysis(extractor), extractor
        self.codebook, self.form = codebook, form

    @property
    def feature_spec(self) -> dict[str, Any]:
        """What a vocoder needs to know of these frames."""
        bands = self.analysis.mel.dim
        dim = 2 + (self.codebook.clusters if self.form == "shares" else 0) + bands
        spec = {"kind": KIND, "codec": self.codebook.fingerprint, "form": self.form, "bands": bands, "dim": dim}
        return self.extractor.spec.feature_spec | spec

    def analyze(self, wav: Tensor) -> UnitFeatures:
        """Returns the features of a waveform (samples,) at 16 kHz."""
        return analyze(self.analysis, wav)

    def frames(self, units: Tensor, f0: Tensor, timbre: Tensor) -> Tensor:
        """Returns frames (frames, dim) of units, F0 (frames,) and a timbre; arguments as in `stream`."""
        return torch.cat(list(self.stream(units, f0, timbre)))

    def stream(self, units: Tensor, f0: Tensor, timbre: Tensor) -> Iterator[Tensor]:
        """Yield frames in chunks, as hours of them would fill the memory.

        Args:
            units: ids (frames,), or soft units (frames, clusters).
            f0: in Hz, 0 where unvoiced.
            timbre: mean envelope (bands,).
        """
        log_f0 = interpolated_log_f0(f0)
        for ids, hertz, log_hertz in zip(units.split(CHUNK), f0.split(CHUNK), log_f0.split(CHUNK), strict=True):
            if self.form == "numbers":
                columns = [(ids if ids.ndim == 1 else ids.argmax(1)).float()[:, None], hertz[:, None]]
            else:
                shares = ids if ids.ndim == 2 else one_hot(ids, self.codebook.clusters).float()
                columns = [log_hertz[:, None], (hertz > 0).float()[:, None], shares]
            yield torch.cat([*columns, timbre.expand(len(ids), -1)], 1)

    def soft_units(self, content: Tensor) -> Tensor:
        """Returns soft units (frames, clusters) of content (frames, dim)."""
        return torch.softmax(-torch.cdist(content, self.codebook.content.centres).square() / SOFT_TEMPERATURE, 1)

    def __call__(self, wav: Tensor) -> Iterator[Tensor]:
        """Yield the vocoder's frames of a waveform, all at once."""
        features = self.analyze(wav)
        yield self.frames(self.codebook.content(features.content), features.f0, features.timbre)


def units_and_f0(frames: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Returns units and F0, (frames,) each, of frames (frames, dim) of either form."""
    if frames.shape[1] == 2 + MEL.bands:
        return frames[:, 0].long(), frames[:, 1]
    return frames[:, 2 : 2 + clusters].argmax(1), frames[:, 0].exp() * frames[:, 1]
