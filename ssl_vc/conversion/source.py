"""EncodedSource: a source that is analysed once, for many voices."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import Any, Self

import torch
from torch import Tensor

from ssl_vc.features.analysis import Analysis
from ssl_vc.features.extractor import Extractor
from ssl_vc.features.time_stretch import stretch
from ssl_vc.features.waveform import Waveform
from ssl_vc.match.replay import IN_MEMORY, FrameBuffer


class EncodedSource:
    """A source's waveform, and its frames on demand; they are computed once, and those of a long one kept in a file.

    Args:
        wav: the waveform (samples,) at 16 kHz.
        extractor: computes the query frames.
        analysis: computes the vocoder's frames.
    """

    def __init__(self, wav: Waveform, extractor: Extractor, analysis: Analysis) -> None:
        self.wav, self._extractor, self._analysis = wav, extractor, analysis
        self.on_frames: Callable[[int], None] | None = None  # called with numbers of query frames as they are computed
        self.specs = extractor.spec, dict(analysis.feature_spec)
        self.generated = False  # from text, so that its waveform says nothing
        self._cache: dict[str, Tensor | FrameBuffer] = {}

    @classmethod
    def from_frames(cls, query: Tensor, vocoder: Tensor, extractor: Extractor, analysis: Analysis) -> Self:
        """Return a source that consists of generated frames instead of a waveform; silence of their length."""
        encoded = cls(torch.zeros(1).expand(len(query) * extractor.hop_length), extractor, analysis)
        encoded._cache = {"query": query, "vocoder": vocoder}
        encoded.generated = True
        return encoded

    @property
    def frames(self) -> int:
        """Number of frames: one per hop, including a partial last one."""
        return -(-len(self.wav) // self._extractor.hop_length)

    def query_frames(self) -> Iterator[Tensor]:
        """Yield the frames that are matched, in chunks."""
        yield from self._chunks("query", lambda wav: self._report(self._extractor.stream(wav, every_hop=True)))

    def vocoder_frames(self) -> Iterator[Tensor]:
        """Yield the frames that the vocoder reads, of the source itself, in chunks."""
        from_query = self._analysis.frames_from_query
        if self._analysis.feature_spec == self._extractor.spec.feature_spec:
            yield from self.query_frames()
        elif from_query is not None:
            yield from self._chunks("vocoder", lambda wav: from_query(wav, self.query_frames()))
        else:
            yield from self._chunks("vocoder", lambda wav: self._analysis.frames(wav[:]))

    def stretched(self, frames: int, device: torch.device) -> tuple[Iterator[Tensor], Iterator[Tensor]]:
        """Return query frames and the vocoder's frames, stretched to this number and on the device."""
        query, own = (
            (chunk.to(device) for chunk in stretch(chunks, self.frames, frames))
            for chunks in (self.query_frames(), self.vocoder_frames())
        )
        return query, own

    def _report(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        for chunk in chunks:
            if self.on_frames is not None:
                self.on_frames(len(chunk))
            yield chunk

    def _chunks(self, name: str, analyze: Callable[[Any], Iterable[Tensor]]) -> Iterable[Tensor]:
        if name not in self._cache:
            chunks = analyze(self.wav)
            short = isinstance(self.wav, Tensor)
            self._cache[name] = torch.cat(list(chunks)) if short else self._buffered(chunks)
        frames = self._cache[name]
        return [frames] if isinstance(frames, Tensor) else frames

    def _buffered(self, chunks: Iterable[Tensor]) -> FrameBuffer:
        file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - open as long as this object exists
        weakref.finalize(self, file.close)
        return FrameBuffer(file, chunks)
