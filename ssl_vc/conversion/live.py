"""Live conversion: chunks of sound in, converted chunks out, a fixed time later.

Every frame is heard once, with what came before it and a little of what follows, and spoken once, likewise:

    samples in       ...............................|
    frames heard     ......................| ahead   |      the encoder hears `ahead` frames more than it gives
    frames spoken    ..............| ahead |                the vocoder knows some frames more than it speaks
    sound out        ..............|

What is said in a block depends on the block's end, so neighbouring blocks are cross-faded over a frame.
"""

from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.nn.functional import pad

from pretrain.encoder.frontend import FIELD, HOP
from ssl_vc.audio import SAMPLE_RATE, AudioError, as_frames
from ssl_vc.conversion.blending import Tally, mixed
from ssl_vc.conversion.prosody import Melody
from ssl_vc.features.analysis import Analysis
from ssl_vc.features.cepstra import beside, cepstra, mean_of
from ssl_vc.features.extractor import Extractor
from ssl_vc.match.knn import KNN
from ssl_vc.match.protocol import Matcher, Pool
from vocoder.network import NeuralVocoder
from vocoder.protocol import Vocoder

PAST = 100  # frames that the encoder hears before those it gives
LEVEL = 10  # seconds of the past from which a front end that wants the whole clip's statistics takes them
SPOKEN_AHEAD = 4  # frames that the vocoder knows beyond those it speaks


class Stream:
    """One live conversion; call it with chunks, then call `finish`.

    Args:
        extractor: makes the frames that are matched.
        pool: the target.
        matcher: must choose frame by frame, as `KNN` does.
        vocoder: one with weights.
        analysis: makes the frames that the vocoder reads, where they are others than those that are matched.
        melody: of the source, where the vocoder takes any.
        share: of the matched frames, see `blend`.
        block: seconds of sound that are made at a time.
        lookahead: seconds that are waited for beyond a block; the more, the nearer to what `convert` gives.
        sample_rate: of the chunks, in Hz.
    """

    def __init__(
        self,
        extractor: Extractor,
        pool: Pool,
        matcher: Matcher,
        vocoder: Vocoder,
        analysis: Analysis | None = None,
        melody: Melody | None = None,
        *,
        share: float = 1.0,
        block: float = 0.1,
        lookahead: float = 0.26,
        sample_rate: int = SAMPLE_RATE,
    ) -> None:
        if not isinstance(matcher, KNN):
            raise ValueError("live conversion chooses frame by frame; give the matcher 'knn'.")
        if not isinstance(vocoder, NeuralVocoder):
            raise ValueError("live conversion needs a vocoder with weights; give a hifigan, vocos or bigvgan.")
        self._block, frames_ahead = round(block * 50), round(lookahead * 50)
        if self._block < 1 or frames_ahead < 1:
            raise ValueError(f"block is {block:g} s and lookahead {lookahead:g} s; give at least 0.02 s each.")
        self._extractor, self._pool, self._matcher = extractor, pool, matcher
        self._vocoder, self._analysis, self._melody, self._share = vocoder, analysis, melody, share
        self._spoken_ahead = min(SPOKEN_AHEAD, vocoder.context, frames_ahead - 1)
        self._heard_ahead = frames_ahead - self._spoken_ahead
        self._resample = _resampler(sample_rate)
        self._resampling = _delay(sample_rate)
        self._wav = torch.empty(0)  # the past that is still needed, and what was not heard yet
        self._dropped = 0  # frames of sound before it
        self._frames = torch.empty(0)  # matched and marked; the last of them is number `_heard` - 1
        self._mark: Any = None
        self._heard = 0  # frames
        self._total = torch.zeros(())  # of those, before they were joined with cepstra
        self._spoken = 0  # frames
        self._given = 0  # samples
        self._overlap = torch.empty(0)  # the frame after the last block, as that block would have said it
        self._over = False

    @property
    def latency(self) -> float:
        """Seconds from a sound's arrival to its conversion, at most, besides the time to compute it."""
        frames = self._block + self._heard_ahead + self._spoken_ahead
        return (frames * HOP + FIELD - HOP) / SAMPLE_RATE + self._resampling

    def __call__(self, chunk: Tensor | np.ndarray[Any, Any]) -> Tensor:
        """Take the next samples (samples,), any number of them, and give what is ready (samples,), perhaps nothing."""
        self._refuse_if_over()
        if chunk.ndim != 1:
            raise AudioError(f"a chunk has the shape {tuple(chunk.shape)}; give (samples,).")
        try:
            sound = torch.from_numpy(as_frames(chunk)[:, 0]) if len(chunk) else torch.empty(0)
        except AudioError as error:
            raise AudioError(f"a chunk {error}.") from None
        if not bool(sound.isfinite().all()):
            raise AudioError("a chunk has samples that are NaN or infinite; leave them out.")
        self._take(sound, last=False)
        return self._advance()

    def finish(self) -> Tensor:
        """Give all that is still to come (samples,), as if silence followed; then the conversion is over."""
        self._refuse_if_over()
        self._take(torch.empty(0), last=True)
        samples = self._dropped * HOP + len(self._wav)
        total = -(-samples // HOP)
        self._wav = pad(self._wav, (0, -samples % HOP + FIELD - HOP))
        self._over = True
        if not samples:
            return torch.empty(0)
        parts = [self._advance()]
        while self._heard < total:
            self._hear(min(self._block, total - self._heard))
            parts.append(self._speak(max(self._heard - self._spoken_ahead, self._spoken)))
        parts.append(self._speak(total))
        wanted = round(samples * self._vocoder.sample_rate / SAMPLE_RATE)
        rest = torch.cat(parts)
        return rest[: len(rest) - (self._given - wanted)]

    def _refuse_if_over(self) -> None:
        if self._over:
            raise ValueError("this conversion is finished; begin another with `stream`.")

    def _take(self, sound: Tensor, last: bool) -> None:
        if self._resample is not None:
            sound = torch.from_numpy(self._resample.resample_chunk(sound.numpy(), last=last))
        self._wav = torch.cat([self._wav, sound])

    def _advance(self) -> Tensor:
        """Convert all blocks that are ready."""
        parts = []
        frames = self._dropped + (len(self._wav) - (FIELD - HOP)) // HOP
        while frames >= self._heard + self._block + self._heard_ahead:
            self._hear(self._block)
            parts.append(self._speak(max(self._heard - self._spoken_ahead, self._spoken)))
        return torch.cat(parts) if parts else torch.empty(0)

    @torch.no_grad()
    def _hear(self, count: int) -> None:
        """Encode and match the next `count` frames."""
        encoder, device = self._extractor.encoder, self._extractor.device
        start = max(self._heard - PAST, self._dropped)
        stop = (self._heard + count + self._heard_ahead - 1 - self._dropped) * HOP + FIELD
        window = self._wav[(start - self._dropped) * HOP : stop][None].to(device)
        statistics = encoder.statistics(self._wav[None, :stop].to(device))
        spec = self._extractor.spec
        layer = encoder(window, layer=spec.layer, statistics=statistics)
        known = layer[0, : self._heard - start + count].float()  # with the past
        if spec.cepstra:
            sounds = cepstra(self._wav[:stop])[start - self._dropped :][: len(known)]
            self._total = known[-count:].sum(0) + self._total
            known = beside(known, sounds, spec.cepstra, mean_of(self._total, self._heard + count))
        frames = known[-count:]
        matches, own = self._matcher([frames], self._pool), frames
        if self._analysis is not None:
            own = self._analysis.beside(window[0].cpu(), known)[self._heard - start :][:count].to(device)
        if self._melody is not None:
            self._melody.heard(own)
        (said,) = mixed(matches, [own], self._melody, self._share, Tally())
        marked, self._mark = self._vocoder.mark(said[None], self._mark)
        self._frames = torch.cat([self._frames.to(device), marked[0]]) if len(self._frames) else marked[0]
        self._heard += count
        useless = self._heard - LEVEL * SAMPLE_RATE // HOP - self._dropped
        if useless > 0:
            self._wav, self._dropped = self._wav[useless * HOP :], self._dropped + useless

    @torch.no_grad()
    def _speak(self, upto: int) -> Tensor:
        """Make the sound of the frames from where it ended to `upto`."""
        if upto == self._spoken:
            return torch.empty(0)
        hop = self._vocoder.hop_length
        first = self._heard - len(self._frames)
        wav = self._vocoder.generate(self._frames[None])[0].float().cpu()[(self._spoken - first) * hop :]
        sound, rest = wav[: (upto - self._spoken) * hop], wav[(upto - self._spoken) * hop :]
        sound, self._overlap = faded(sound, self._overlap), rest[:hop]
        self._spoken = upto
        self._given += len(sound)
        self._frames = self._frames[max(upto - self._vocoder.context - first, 0) :]
        return sound


def faded(sound: Tensor, overlap: Tensor) -> Tensor:
    """Give a sound (samples,) that begins as another and becomes itself by that one's end."""
    share = torch.linspace(0, 1, len(overlap))
    return torch.cat([(1 - share) * overlap + share * sound[: len(overlap)], sound[len(overlap) :]])


def _resampler(sample_rate: int) -> soxr.ResampleStream | None:
    # better qualities wait for as much as 100 ms, and speech does not need them
    return None if sample_rate == SAMPLE_RATE else soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, quality="LQ")


def _delay(sample_rate: int) -> float:
    """Measure how many seconds a resampler holds back."""
    resampler, most, held = _resampler(sample_rate), 0, 0
    if resampler is None:
        return 0.0
    step = sample_rate // 100
    for number in range(1, 51):
        held += len(resampler.resample_chunk(np.zeros(step, np.float32)))
        most = max(most, number * SAMPLE_RATE // 100 - held)
    return most / SAMPLE_RATE
