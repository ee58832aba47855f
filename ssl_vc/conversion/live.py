"""Live conversion: waveform chunks in, converted chunks out, at a fixed latency.

Every frame is encoded and vocoded once, each time with past context and a little lookahead:

    samples in         ...............................|
    frames encoded     ......................| ahead   |      the encoder sees `ahead` frames more than it returns
    frames vocoded     ..............| ahead |                the vocoder sees some frames more than it generates
    waveform out       ..............|

The waveform of a block depends on where the block ends, so consecutive blocks are cross-faded over one frame.
"""

from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.nn.functional import pad

from pretrain.encoder.framing import HOP, RECEPTIVE_FIELD
from ssl_vc import process
from ssl_vc.audio import SAMPLE_RATE, AudioError, as_frames
from ssl_vc.conversion.blending import blend_matches
from ssl_vc.conversion.prosody import ProsodyTransfer
from ssl_vc.features.analysis import Analysis
from ssl_vc.features.cepstra import append_cepstra, cepstra, shrunk_mean
from ssl_vc.features.extractor import Extractor
from ssl_vc.match.knn import KNN
from ssl_vc.match.protocol import Matcher, Pool
from ssl_vc.options import check_range
from vocoder.network import NeuralVocoder
from vocoder.protocol import Vocoder

PAST = 100  # frames of context before those encoded
LEVEL = 10  # seconds of the past that utterance statistics are measured on
VOCODER_AHEAD = 4  # frames of lookahead of the vocoder


class Stream:
    """One live conversion; call it with chunks, then call `finish`.

    Args:
        extractor: computes the query frames.
        pool: the target.
        matcher: must match frame by frame, as `KNN` does.
        vocoder: a neural one.
        analysis: computes the vocoder's frames, where those are not the query frames.
        prosody: of the source; None if the vocoder takes none.
        weight: of the matched frames, see `blend_matches`.
        block: seconds converted at a time.
        lookahead: seconds of lookahead beyond a block; more lookahead approaches offline quality.
        sample_rate: of the chunks, in Hz.
        threads: that compute a block, which is so short that more than one gain little and wait for each other.
    """

    def __init__(
        self,
        extractor: Extractor,
        pool: Pool,
        matcher: Matcher,
        vocoder: Vocoder,
        analysis: Analysis | None = None,
        prosody: ProsodyTransfer | None = None,
        *,
        weight: float = 1.0,
        block: float = 0.1,
        lookahead: float = 0.26,
        sample_rate: int = SAMPLE_RATE,
        threads: int = 1,
    ) -> None:
        check_range("blend", weight, 0, 4)
        check_range("block", block, 0.02, 10)
        check_range("lookahead", lookahead, 0.02, 10)
        check_range("sample_rate", sample_rate, 1000, 768_000)
        check_range("threads", threads, 1, 1024)
        if not isinstance(matcher, KNN):
            raise ValueError("live conversion matches frame by frame; use the matcher 'knn'.")
        if not isinstance(vocoder, NeuralVocoder):
            raise ValueError("live conversion needs a neural vocoder; use a hifigan, vocos or bigvgan.")
        self._block, frames_ahead = round(block * 50), round(lookahead * 50)
        if self._block < 1 or frames_ahead < 1:
            raise ValueError(f"block is {block:g} s and lookahead {lookahead:g} s; give at least 0.02 s each.")
        self._extractor, self._pool, self._matcher = extractor, pool, matcher
        self._vocoder, self._analysis, self._prosody, self._weight = vocoder, analysis, prosody, float(weight)
        self._vocoder_ahead = min(VOCODER_AHEAD, vocoder.context, frames_ahead - 1)
        self._encoder_ahead = frames_ahead - self._vocoder_ahead
        self._threads = threads
        self._resample = _resampler(sample_rate)
        self._resampling_delay = _delay(sample_rate)
        self._wav = torch.empty(0)  # input that is still needed
        self._dropped = 0  # frames of input before it
        self._frames = torch.empty(0)  # vocoder input with phase; the last of them is number `_encoded` - 1
        self._phase: Any = None
        self._encoded = 0  # frames
        self._total = torch.zeros(())  # sum of those, before cepstra were appended
        self._vocoded = 0  # frames
        self._returned = 0  # samples
        self._overlap = torch.empty(0)  # the frame after the last block, as that block continues
        self._finished = False

    @property
    def latency(self) -> float:
        """Maximum algorithmic delay in seconds, excluding computation."""
        frames = self._block + self._encoder_ahead + self._vocoder_ahead
        return (frames * HOP + RECEPTIVE_FIELD - HOP) / SAMPLE_RATE + self._resampling_delay

    def __call__(self, chunk: Tensor | np.ndarray[Any, Any]) -> Tensor:
        """Convert the next samples (samples,), any number of them; return what is ready (samples,), perhaps nothing."""
        self._refuse_if_finished()
        if chunk.ndim != 1:
            raise AudioError(f"a chunk has the shape {tuple(chunk.shape)}; give (samples,).")
        try:
            wav = torch.from_numpy(as_frames(chunk)[:, 0]) if len(chunk) else torch.empty(0)
        except AudioError as error:
            raise AudioError(f"a chunk {error}.") from None
        if not bool(wav.isfinite().all()):
            raise AudioError("a chunk has samples that are NaN or infinite; leave them out.")
        self._append(wav, last=False)
        with process.threads(self._threads):
            return self._convert_ready_blocks()

    def finish(self) -> Tensor:
        """Return the rest (samples,), as if silence followed; the conversion ends here."""
        self._refuse_if_finished()
        self._append(torch.empty(0), last=True)
        samples = self._dropped * HOP + len(self._wav)
        total = -(-samples // HOP)
        self._wav = pad(self._wav, (0, -samples % HOP + RECEPTIVE_FIELD - HOP))
        self._finished = True
        if not samples:
            return torch.empty(0)
        with process.threads(self._threads):
            output = [self._convert_ready_blocks()]
            while self._encoded < total:
                output.append(self._convert_block(min(self._block, total - self._encoded)))
            output.append(self._vocode(total))
        wanted = round(samples * self._vocoder.sample_rate / SAMPLE_RATE)
        rest = torch.cat(output)
        return rest[: len(rest) - (self._returned - wanted)]

    def _refuse_if_finished(self) -> None:
        if self._finished:
            raise ValueError("this conversion is finished; start another with `stream`.")

    def _append(self, wav: Tensor, last: bool) -> None:
        if self._resample is not None:
            wav = torch.from_numpy(self._resample.resample_chunk(wav.numpy(), last=last))
        self._wav = torch.cat([self._wav, wav])

    def _convert_ready_blocks(self) -> Tensor:
        output = []
        frames = self._dropped + (len(self._wav) - (RECEPTIVE_FIELD - HOP)) // HOP
        while frames >= self._encoded + self._block + self._encoder_ahead:
            output.append(self._convert_block(self._block))
        return torch.cat(output) if output else torch.empty(0)

    @torch.no_grad()
    def _convert_block(self, count: int) -> Tensor:
        """Convert the next `count` frames; return the waveform up to the vocoder's lookahead."""
        query, own = self._analyze(count)
        if self._prosody is not None:
            self._prosody.observe(own)
        (blended,) = blend_matches(self._matcher([query], self._pool), [own], self._prosody, self._weight)
        phased, self._phase = self._vocoder.add_phase(blended[None], self._phase)
        self._frames = torch.cat([self._frames.to(phased.device), phased[0]]) if len(self._frames) else phased[0]
        self._encoded += count
        self._drop_past()
        return self._vocode(max(self._encoded - self._vocoder_ahead, self._vocoded))

    def _analyze(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the next `count` query frames, and the vocoder's frames of the same source."""
        encoder, device, spec = self._extractor.encoder, self._extractor.device, self._extractor.spec
        start = max(self._encoded - PAST, self._dropped)
        stop = (self._encoded + count + self._encoder_ahead - 1 - self._dropped) * HOP + RECEPTIVE_FIELD
        window = self._wav[(start - self._dropped) * HOP : stop][None].to(device)
        statistics = encoder.statistics(self._wav[None, :stop].to(device))
        layer = encoder(window, layer=spec.layer, statistics=statistics)
        frames = layer[0, : self._encoded - start + count].float()  # with the past
        if spec.cepstra:
            rows = cepstra(self._wav[:stop])[start - self._dropped :][: len(frames)]
            self._total = frames[-count:].sum(0) + self._total
            mean = shrunk_mean(self._total, self._encoded + count)
            frames = append_cepstra(frames, rows, spec.cepstra, mean)
        query = frames[-count:]
        if self._analysis is None:
            return query, query
        own = self._analysis.compute(window[0].cpu(), frames)[self._encoded - start :][:count]
        return query, own.to(device)

    def _drop_past(self) -> None:
        excess = self._encoded - LEVEL * SAMPLE_RATE // HOP - self._dropped
        if excess > 0:
            self._wav, self._dropped = self._wav[excess * HOP :], self._dropped + excess

    @torch.no_grad()
    def _vocode(self, stop: int) -> Tensor:
        """Generate the waveform of the frames from where it ended to `stop`."""
        if stop == self._vocoded:
            return torch.empty(0)
        hop = self._vocoder.hop_length
        first = self._encoded - len(self._frames)
        wav = self._vocoder.generate(self._frames[None])[0].float().cpu()[(self._vocoded - first) * hop :]
        block, rest = wav[: (stop - self._vocoded) * hop], wav[(stop - self._vocoded) * hop :]
        block, self._overlap = cross_fade(block, self._overlap), rest[:hop]
        self._vocoded = stop
        self._returned += len(block)
        self._frames = self._frames[max(stop - self._vocoder.context - first, 0) :]
        return block


def cross_fade(wav: Tensor, overlap: Tensor) -> Tensor:
    """Return a waveform (samples,) that fades from an overlap into `wav`."""
    share = torch.linspace(0, 1, len(overlap))
    return torch.cat([(1 - share) * overlap + share * wav[: len(overlap)], wav[len(overlap) :]])


def _resampler(sample_rate: int) -> soxr.ResampleStream | None:
    # better qualities delay by up to 100 ms, and speech does not need them
    return None if sample_rate == SAMPLE_RATE else soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, quality="LQ")


def _delay(sample_rate: int) -> float:
    """Measure the delay of a resampler in seconds."""
    resampler, longest, returned = _resampler(sample_rate), 0, 0
    if resampler is None:
        return 0.0
    step = sample_rate // 100
    for number in range(1, 51):
        returned += len(resampler.resample_chunk(np.zeros(step, np.float32)))
        longest = max(longest, number * SAMPLE_RATE // 100 - returned)
    return longest / SAMPLE_RATE
