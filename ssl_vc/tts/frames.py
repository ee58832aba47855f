"""What the text model says: all that a conversion wants of a source, in one row of numbers for each frame.

    | what is matched | log F0 beside the median | voicing | loudness | envelope |

for vocoders that read spoken frames (`ssl_vc.features.disentangled`); where the vocoder reads what is matched, that
alone. The rest of a spoken frame follows: its content is a part of what is matched, its timbre that of the speaker.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_vc.features.disentangled import KIND, parts_of
from ssl_vc.features.extractor import FrameSpec
from ssl_vc.features.layout import Parts
from vocoder.pitch import level_of


class Speaker(NamedTuple):
    """Whose frames are said.

    Attributes:
        name: of the speaker.
        level: median F0 in Hz.
        timbre: the mean envelope (bands,); empty where frames have none.
    """

    name: str
    level: float
    timbre: Tensor


class Said:
    """Packs a source's frames into rows, and unpacks rows that were said.

    Args:
        spec: of the frames that are matched.
        reads: what the vocoder reads.
    """

    def __init__(self, spec: FrameSpec, reads: Mapping[str, Any]) -> None:
        self.matched, self.cepstra = spec.dim, spec.cepstra
        self.parts: Parts | None = parts_of(reads) if reads.get("kind") == KIND else None
        self.spoken = int(reads["dim"]) if self.parts else spec.dim
        self.content = 0 if self.parts is None else self.parts.content.stop - self.parts.content.start

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return self.matched if self.parts is None else self.matched + 3 + self._envelope

    @property
    def height(self) -> slice:
        """Where a row has its log F0; nowhere if it has none."""
        return slice(self.matched, self.matched + (self.parts is not None))

    @property
    def _envelope(self) -> int:
        assert self.parts is not None
        return self.parts.envelope.stop - self.parts.envelope.start

    def speaker(self, name: str, clips: Sequence[Tensor]) -> Speaker:
        """Say what a speaker is like, of the spoken frames (frames, dim) of some clips."""
        if self.parts is None:
            return Speaker(name, 0.0, torch.zeros(0))
        frames = torch.cat(list(clips)).float()
        pitch = frames[:, self.parts.pitch][:, 0].exp() * (frames[:, self.parts.voicing][:, 0] > 0.5)
        return Speaker(name, level_of(pitch), frames[:, self.parts.envelope.stop :].mean(0))

    def pack(self, matched: Tensor, spoken: Tensor, speaker: Speaker) -> Tensor:
        """Give rows (frames, dim) of a clip's frames."""
        if self.parts is None:
            return matched
        height = spoken[:, self.parts.pitch] - math.log(speaker.level)
        columns = [spoken[:, part] for part in (self.parts.voicing, self.parts.loudness, self.parts.envelope)]
        return torch.cat([matched, height, *columns], 1)

    def unpack(self, rows: Tensor, speaker: Speaker) -> tuple[Tensor, Tensor]:
        """Give what is matched, and what the vocoder reads of the speaker himself."""
        matched, parts = rows[:, : self.matched], self.parts
        if parts is None:
            return matched, matched
        if self.cepstra:
            content, sounds = (normalize(part, dim=1) for part in matched.tensor_split([self.content], 1))
            matched = torch.cat([content, self.cepstra**0.5 * sounds], 1)
        else:
            content = normalize(matched - matched.mean(0), dim=1)
        height, voicing, loudness = rows[:, self.matched : self.matched + 3].split(1, 1)
        spoken = torch.zeros(len(rows), self.spoken)
        spoken[:, parts.pitch] = height + math.log(speaker.level)
        spoken[:, parts.voicing] = (voicing > 0.5).float()
        spoken[:, parts.loudness] = loudness
        spoken[:, parts.content] = self.content**0.5 * content
        spoken[:, parts.envelope] = rows[:, self.matched + 3 :]
        spoken[:, parts.envelope.stop :] = speaker.timbre
        return matched, spoken
