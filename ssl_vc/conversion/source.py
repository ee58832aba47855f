"""EncodedSource: a source that is analysed once, for many voices."""

from collections.abc import Callable, Iterable, Iterator
from typing import Self

import torch
from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.features.analysis import Analysis
from ssl_vc.features.extractor import Extractor

HELD = 600  # seconds of a source whose frames are cached; a longer one is analysed again for each voice


class EncodedSource:
    """A source's waveform, and its frames on demand; they are cached unless the source is very long.

    Args:
        wav: the waveform (samples,) at 16 kHz.
        extractor: computes the query frames.
        analysis: computes the vocoder's frames.
    """

    def __init__(self, wav: Tensor, extractor: Extractor, analysis: Analysis) -> None:
        self.wav, self._extractor, self._analysis = wav, extractor, analysis
        self.specs = extractor.spec, dict(analysis.feature_spec)
        self._cache: dict[str, Tensor] = {}

    @classmethod
    def from_frames(cls, query: Tensor, vocoder: Tensor, extractor: Extractor, analysis: Analysis) -> Self:
        """Return a source that consists of generated frames instead of a waveform; silence of their length."""
        encoded = cls(torch.zeros(1).expand(len(query) * extractor.hop_length), extractor, analysis)
        encoded._cache = {"query": query, "vocoder": vocoder}
        return encoded

    @property
    def frames(self) -> int:
        """Number of frames: one per hop, including a partial last one."""
        return -(-len(self.wav) // self._extractor.hop_length)

    def query_frames(self) -> Iterator[Tensor]:
        """Yield the frames that are matched, in chunks."""
        yield from self._chunks("query", lambda wav: self._extractor.stream(wav, every_hop=True))

    def vocoder_frames(self) -> Iterator[Tensor]:
        """Yield the frames that the vocoder reads, of the source itself, in chunks."""
        from_query = self._analysis.frames_from_query
        if self._analysis.feature_spec == self._extractor.spec.feature_spec:
            yield from self.query_frames()
        elif from_query is not None:
            yield from self._chunks("vocoder", lambda wav: from_query(wav, self.query_frames()))
        else:
            yield from self._chunks("vocoder", self._analysis.frames)

    def _chunks(self, name: str, analyze: Callable[[Tensor], Iterable[Tensor]]) -> Iterable[Tensor]:
        if name in self._cache:
            return [self._cache[name]]
        slow = name == "vocoder" and self._analysis.feature_spec["kind"] == "world"  # and its frames are small
        if len(self.wav) > HELD * SAMPLE_RATE and not slow:
            return analyze(self.wav)
        self._cache[name] = torch.cat(list(analyze(self.wav)))
        return [self._cache[name]]
