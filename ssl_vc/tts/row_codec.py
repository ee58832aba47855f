"""Rows: the text model's targets, one vector per frame with all that a conversion needs of a source.

    | query frame | log F0 relative to the median | voicing | loudness | envelope |

for vocoders of disentangled frames (`ssl_vc.features.disentangled`); the query frame alone where the vocoder reads the
matched features themselves. The rest of a disentangled frame follows: its content is part of the query frame, its
timbre the speaker's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_vc.features.disentangled import KIND, disentangled_layout
from ssl_vc.features.extractor import FrameSpec
from ssl_vc.features.layout import FrameLayout
from vocoder.pitch import voiced_median


class Speaker(NamedTuple):
    """A training speaker.

    Attributes:
        name: of the speaker.
        median_f0: in Hz.
        timbre: mean envelope (bands,); empty where frames have none.
    """

    name: str
    median_f0: float
    timbre: Tensor


class RowCodec:
    """Encodes a clip's frames as rows, and decodes predicted rows.

    Args:
        spec: of the query frames.
        reads: features the vocoder reads.
    """

    def __init__(self, spec: FrameSpec, reads: Mapping[str, Any]) -> None:
        self.query_dim, self.cepstra = spec.dim, spec.cepstra
        self.layout: FrameLayout | None = disentangled_layout(reads) if reads.get("kind") == KIND else None
        self.vocoder_dim = int(reads["dim"]) if self.layout else spec.dim
        self.content_dim = _width(self.layout.content) if self.layout else 0

    @property
    def dim(self) -> int:
        """Dimension of a row."""
        return self.query_dim if self.layout is None else self.query_dim + 3 + _width(self.layout.envelope)

    @property
    def log_f0(self) -> slice:
        """Column of log F0; empty if a row has none."""
        return slice(self.query_dim, self.query_dim + (self.layout is not None))

    def speaker(self, name: str, clips: Sequence[Tensor]) -> Speaker:
        """Returns a speaker's statistics over the vocoder frames (frames, dim) of some clips."""
        if self.layout is None:
            return Speaker(name, 0.0, torch.zeros(0))
        frames = torch.cat(list(clips)).float()
        f0 = frames[:, self.layout.pitch][:, 0].exp() * (frames[:, self.layout.voicing][:, 0] > 0.5)
        return Speaker(name, voiced_median(f0), frames[:, self.layout.envelope.stop :].mean(0))

    def encode(self, query_frames: Tensor, vocoder_frames: Tensor, speaker: Speaker) -> Tensor:
        """Returns the rows (frames, dim) of a clip's frames."""
        if self.layout is None:
            return query_frames
        log_f0 = vocoder_frames[:, self.layout.pitch] - math.log(speaker.median_f0)
        rest = (self.layout.voicing, self.layout.loudness, self.layout.envelope)
        return torch.cat([query_frames, log_f0, *(vocoder_frames[:, columns] for columns in rest)], 1)

    def decode(self, rows: Tensor, speaker: Speaker) -> tuple[Tensor, Tensor]:
        """Returns query frames and the speaker's own vocoder frames, (frames, dim) each."""
        query, layout = rows[:, : self.query_dim], self.layout
        if layout is None:
            return query, query
        if self.cepstra:
            content, cepstra = (normalize(part, dim=1) for part in query.tensor_split([self.content_dim], 1))
            query = torch.cat([content, self.cepstra**0.5 * cepstra], 1)
        else:
            content = normalize(query - query.mean(0), dim=1)
        log_f0, voicing, loudness = rows[:, self.query_dim : self.query_dim + 3].split(1, 1)
        frames = torch.zeros(len(rows), self.vocoder_dim)
        frames[:, layout.pitch] = log_f0 + math.log(speaker.median_f0)
        frames[:, layout.voicing] = (voicing > 0.5).float()
        frames[:, layout.loudness] = loudness
        frames[:, layout.content] = self.content_dim**0.5 * content
        frames[:, layout.envelope] = rows[:, self.query_dim + 3 :]
        frames[:, layout.envelope.stop :] = speaker.timbre
        return query, frames


def _width(columns: slice) -> int:
    return int(columns.stop - columns.start)
