"""Acoustic model: the symbols of a sentence to frames, non-autoregressively.

    symbols -> encoder -> hidden -> mean of each symbol -> repeated by duration -> decoder -> frames
                            `-----> duration predictor ----------'

A decoder trained by regression predicts the mean of all renditions, which is smoother than speech, and the neighbours
of smooth frames are not those of speech. So the decoder is trained by flow matching (`ssl_vc.tts.flow_matching`), as in
Mehta, Tu, Beskow, Szekely and Henter, 2023, "Matcha-TTS", arXiv 2309.03199. The duration predictor's targets come from
monotonic alignment search (`ssl_vc.tts.alignment`) between the frames and the current means.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ssl_vc.tts.alignment import monotonic_alignment_search
from ssl_vc.tts.convnext import convnext_blocks
from ssl_vc.tts.duration import DurationPredictor, repeat_by_duration
from ssl_vc.tts.flow_matching import Decoder
from ssl_vc.tts.symbols import SYMBOLS

MAX_DURATION = 100  # frames of a symbol
RENAMED_LAYERS = {  # as files of earlier versions call them
    "begin.": "word_start.",
    "length.": "duration_predictor.layers.",
    "decoder.heard.": "decoder.condition.",
    "decoder.when.": "decoder.time_mlp.",
}


@dataclass(frozen=True)
class AcousticConfig:
    """Shape of an `AcousticModel`.

    Attributes:
        dim: of the frames.
        speakers: number of training speakers.
        width: of the encoder.
        depth: number of encoder blocks.
        decoder_width: of the decoder.
        decoder_depth: number of decoder blocks.
        flow: whether the decoder is trained by flow matching; otherwise by regression.
    """

    dim: int
    speakers: int = 1
    width: int = 192
    depth: int = 6
    decoder_width: int = 256
    decoder_depth: int = 8
    flow: bool = True

    def __post_init__(self) -> None:
        for name in ("dim", "speakers", "width", "depth", "decoder_width", "decoder_depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")


class Batch(NamedTuple):
    """Sentences and their frames, zero-padded.

    Attributes:
        symbols: symbol ids (batch, symbols).
        word_starts: 1 where a word starts (batch, symbols).
        symbol_counts: symbols in each row (batch,).
        speakers: speaker ids (batch,).
        frames: (batch, frames, dim).
        frame_counts: frames in each row (batch,).
    """

    symbols: Tensor
    word_starts: Tensor
    symbol_counts: Tensor
    speakers: Tensor
    frames: Tensor
    frame_counts: Tensor


class AcousticModel(nn.Module):
    """Symbols to frames of mean 0 and variance 1; see above."""

    def __init__(self, config: AcousticConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(len(SYMBOLS), config.width)
        self.word_start = nn.Embedding(2, config.width)
        self.speaker = nn.Embedding(config.speakers, config.width)
        self.encoder = convnext_blocks(config.width, config.depth)
        self.norm = nn.LayerNorm(config.width)
        self.mean = nn.Linear(config.width, config.dim)
        self.duration_predictor = DurationPredictor(config.width)
        self.decoder = Decoder(config.width, config.dim, config.decoder_width, config.decoder_depth, config.flow)

    @property
    def shape(self) -> dict[str, Any]:
        """The config as JSON-serialisable values."""
        return asdict(self.config)

    def encode(
        self, symbols: Tensor, word_starts: Tensor, speakers: Tensor, symbol_counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns hidden states (batch, symbols, width) and predicted log durations (batch, symbols)."""
        x = self.embed(symbols) + self.word_start(word_starts) + self.speaker(speakers)[:, None]
        mask = _mask(symbol_counts, symbols.shape[1])
        for block in self.encoder:
            x = block(x * mask)
        hidden = self.norm(x) * mask
        return hidden, self.duration_predictor(hidden.detach(), mask)  # durations do not train the encoder

    def forward(self, batch: Batch, segment: int) -> dict[str, Tensor]:
        """Returns the losses of means, log durations and decoder.

        Args:
            batch: of sentences.
            segment: frames of each sentence, from a random start, that the decoder is trained on.
        """
        hidden, log_durations = self.encode(batch.symbols, batch.word_starts, batch.speakers, batch.symbol_counts)
        means = self.mean(hidden)
        scores = -0.5 * torch.cdist(means.detach(), batch.frames).square() / self.config.dim
        durations = monotonic_alignment_search(scores, batch.symbol_counts, batch.frame_counts)
        frame_means = repeat_by_duration(means, durations)
        mask = _mask(batch.frame_counts, batch.frames.shape[1])
        whole = repeat_by_duration(hidden, durations), frame_means.detach(), batch.frames
        return {
            "mean": ((frame_means - batch.frames).square() * mask).sum() / (mask.sum() * self.config.dim),
            "length": (log_durations - durations.clamp(min=1).log()).abs()[durations > 0].mean(),
            "decoder": self.decoder.loss(*_random_segments(whole, batch.frame_counts, segment)),
        }

    @torch.no_grad()
    def generate(
        self,
        symbols: Tensor,
        word_starts: Tensor,
        speaker: int = 0,
        *,
        speed: float = 1.0,
        steps: int = 4,
        temperature: float = 0.3,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns the frames (frames, dim) of a sentence (symbols,) and the durations of its symbols.

        Args:
            symbols: symbol ids.
            word_starts: 1 where a word starts.
            speaker: speaker id.
            speed: speaking rate; 2 is twice as fast.
            steps: Euler steps of the flow.
            temperature: standard deviation of the flow's noise, from 0 (deterministic) to 1 (as varied as speech).
            generator: of the noise.
        """
        counts = torch.tensor([len(symbols)], device=symbols.device)
        speakers = torch.tensor([speaker], device=symbols.device)
        hidden, log_durations = self.encode(symbols[None], word_starts[None], speakers, counts)
        durations = (log_durations.exp() / speed).round().long().clamp(1, MAX_DURATION)
        means = repeat_by_duration(self.mean(hidden), durations)
        frames = self.decoder.sample(repeat_by_duration(hidden, durations), means, steps, temperature, generator)
        return frames[0], durations[0]


def rename_layers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns weights under their present names, whatever version wrote them."""
    renamed = {}
    for name, weight in weights.items():
        old = next((old for old in RENAMED_LAYERS if name.startswith(old)), "")
        renamed[RENAMED_LAYERS.get(old, "") + name.removeprefix(old)] = weight
    return renamed


def _mask(counts: Tensor, size: int) -> Tensor:
    """Returns True where a row has an element (batch, size, 1)."""
    return (torch.arange(size, device=counts.device) < counts[:, None])[..., None]


def _random_segments(whole: tuple[Tensor, ...], counts: Tensor, segment: int) -> tuple[Tensor, ...]:
    """Returns the same random segment of each tensor (batch, frames, dim), and its mask (batch, segment, 1)."""
    start = (torch.rand(len(counts), device=counts.device) * (counts - segment + 1).clamp(min=1)).long()
    frame = start[:, None] + torch.arange(segment, device=counts.device)
    index, mask = frame.clamp(max=whole[-1].shape[1] - 1)[..., None], (frame < counts[:, None])[..., None]
    return *(part.take_along_dim(index, 1) * mask for part in whole), mask
