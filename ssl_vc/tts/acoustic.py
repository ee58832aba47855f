"""Acoustic model: symbols of a sentence to frames, all at once.

    symbols -> encoder -> a mean for each -> repeated for its frames -> decoder -> frames
                   `----> log length -----------'

What a decoder that is taught by distances gives is the mean of all that could be said, smoother than speech, and
neighbours of smooth frames are not those of speech. So the decoder learns a flow from noise to frames instead
(Lipman, Chen, Ben-Hamu, Nickel and Le, 2022, "Flow Matching for Generative Modeling", arXiv 2210.02747; for speech
Mehta, Tu, Beskow, Szekely and Henter, 2023, "Matcha-TTS", arXiv 2309.03199), which takes a few steps to follow.
Lengths are learned from the alignment (`ssl_vc.tts.align`) that fits the means as they are by then.
"""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ssl_vc.tts.align import durations, spread
from ssl_vc.tts.symbols import SYMBOLS
from vocoder.vocos import ConvNeXtBlock, VocosConfig

LONGEST = 100  # frames of a symbol


@dataclass(frozen=True)
class AcousticConfig:
    """The shape of an `Acoustic`.

    Attributes:
        dim: numbers in a frame.
        speakers: that it learns from.
        width: of the encoder.
        depth: blocks of the encoder.
        decoder_width: of the decoder.
        decoder_depth: blocks of the decoder.
        flow: whether the decoder learns a flow; otherwise it learns distances.
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
    """Sentences and what was said of them; rows are filled up with zeros.

    Attributes:
        symbols: numbers of symbols (batch, symbols).
        begins: 1 where a word begins (batch, symbols).
        counts: symbols of each row (batch,).
        speakers: who speaks (batch,).
        frames: (batch, frames, dim).
        lengths: frames of each row (batch,).
    """

    symbols: Tensor
    begins: Tensor
    counts: Tensor
    speakers: Tensor
    frames: Tensor
    lengths: Tensor


class Acoustic(nn.Module):
    """Symbols to frames of mean 0 and variance 1; see above."""

    def __init__(self, config: AcousticConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(len(SYMBOLS), config.width)
        self.begin = nn.Embedding(2, config.width)
        self.speaker = nn.Embedding(config.speakers, config.width)
        self.encoder = _blocks(config.width, config.depth)
        self.norm = nn.LayerNorm(config.width)
        self.mean = nn.Linear(config.width, config.dim)
        self.length = nn.Sequential(*_blocks(config.width, 2), nn.LayerNorm(config.width), nn.Linear(config.width, 1))
        self.decoder = Decoder(config)

    @property
    def facts(self) -> dict[str, Any]:
        """The shape, as JSON can hold it."""
        return asdict(self.config)

    def encode(self, symbols: Tensor, begins: Tensor, speakers: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Give for each symbol what the decoder hears of it (batch, symbols, width) and its log length."""
        x = self.embed(symbols) + self.begin(begins) + self.speaker(speakers)[:, None]
        there = (torch.arange(symbols.shape[1], device=symbols.device) < counts[:, None])[..., None]
        for block in self.encoder:
            x = block(x * there)
        told = self.norm(x) * there
        y = told.detach()  # lengths learn from what is known of the symbols, and do not teach it
        for layer in self.length:
            y = layer(y * there) if isinstance(layer, ConvNeXtBlock) else layer(y)
        return told, y[..., 0]

    def forward(self, batch: Batch, cut: int) -> dict[str, Tensor]:
        """Give what is learned from: how far means, lengths and the decoder are from what was said.

        Args:
            batch: of sentences.
            cut: frames of each sentence, from a place by lot, that the decoder learns from.
        """
        told, log_lengths = self.encode(batch.symbols, batch.begins, batch.speakers, batch.counts)
        means = self.mean(told)
        fit = -0.5 * torch.cdist(means.detach(), batch.frames).square() / self.config.dim
        lengths = durations(fit, batch.counts, batch.lengths)
        known = (torch.arange(batch.frames.shape[1], device=told.device) < batch.lengths[:, None])[..., None]
        there = lengths > 0
        spread_means = spread(means, lengths)
        start = (torch.rand(len(told), device=told.device) * (batch.lengths - cut + 1).clamp(min=1)).long()
        at = start[:, None] + torch.arange(cut, device=told.device)
        index, inside = at.clamp(max=known.shape[1] - 1)[..., None], (at < batch.lengths[:, None])[..., None]
        parts = (spread(told, lengths), spread_means.detach(), batch.frames)
        heard, mean, frames = (part.take_along_dim(index, 1) * inside for part in parts)
        return {
            "mean": ((spread_means - batch.frames).square() * known).sum() / (known.sum() * self.config.dim),
            "length": (log_lengths - lengths.clamp(min=1).log()).abs()[there].mean(),
            "decoder": self.decoder.loss(heard, mean, frames, inside),
        }

    @torch.no_grad()
    def say(
        self,
        symbols: Tensor,
        begins: Tensor,
        speaker: int = 0,
        *,
        speed: float = 1.0,
        steps: int = 4,
        warmth: float = 0.3,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Give the frames (frames, dim) of a sentence (symbols,), and how many are of each symbol.

        Args:
            symbols: numbers of symbols.
            begins: 1 where a word begins.
            speaker: who speaks.
            speed: how many times as fast.
            steps: of the flow.
            warmth: of the noise that the flow begins with: 0 gives the likeliest, 1 what is as varied as speech.
            generator: of the noise.
        """
        counts = torch.tensor([len(symbols)], device=symbols.device)
        told, log_lengths = self.encode(
            symbols[None], begins[None], torch.tensor([speaker], device=symbols.device), counts
        )
        lengths = (log_lengths.exp() / speed).round().long().clamp(1, LONGEST)
        means = spread(self.mean(told), lengths)
        frames = self.decoder.sample(spread(told, lengths), means, steps, warmth, generator)
        return frames[0], lengths[0]


class Decoder(nn.Module):
    """Repeated symbols to frames: by a flow from noise, or at once."""

    def __init__(self, config: AcousticConfig) -> None:
        super().__init__()
        self.flow, width = config.flow, config.decoder_width
        self.heard = nn.Linear(config.width + config.dim, width)
        self.noisy = nn.Linear(config.dim, width) if config.flow else None
        self.when = nn.Sequential(nn.Linear(64, width), nn.GELU(), nn.Linear(width, width)) if config.flow else None
        self.blocks = _blocks(width, config.decoder_depth)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.dim)

    def forward(self, told: Tensor, means: Tensor, x: Tensor | None = None, when: Tensor | None = None) -> Tensor:
        """Give frames, or of noisy frames `x` at a time from 0 to 1 (batch,) the way from noise to frames."""
        y = self.heard(torch.cat([told, means], 2))
        if self.noisy is not None and self.when is not None:
            assert x is not None and when is not None
            y = y + self.noisy(x) + self.when(_waves(when))[:, None]
        for block in self.blocks:
            y = block(y)
        way: Tensor = self.out(self.norm(y))
        return way

    def loss(self, told: Tensor, means: Tensor, frames: Tensor, known: Tensor) -> Tensor:
        """Compare with frames (batch, frames, dim), where they are known (batch, frames, 1)."""
        if not self.flow:
            return ((self(told, means) - frames).square() * known).sum() / (known.sum() * frames.shape[2])
        noise, when = torch.randn_like(frames), torch.rand(len(frames), device=frames.device)
        share = when[:, None, None]
        way = self(told, means, (1 - share) * noise + share * frames, when)
        return ((way - (frames - noise)).square() * known).sum() / (known.sum() * frames.shape[2])

    def sample(
        self, told: Tensor, means: Tensor, steps: int, warmth: float, generator: torch.Generator | None
    ) -> Tensor:
        """Give frames (batch, frames, dim)."""
        if not self.flow:
            return self(told, means)
        x = warmth * torch.randn(means.shape, generator=generator, device="cpu").to(means)
        for step in range(steps):
            when = torch.full((len(means),), step / steps, device=means.device)
            x = x + self(told, means, x, when) / steps
        return x


def _blocks(width: int, depth: int) -> nn.ModuleList:
    shape = VocosConfig(width=width, ffn_dim=3 * width, depth=depth)
    return nn.ModuleList(ConvNeXtBlock(shape) for _ in range(depth))


def _waves(when: Tensor) -> Tensor:
    """Give a time as 64 sines and cosines."""
    rates = torch.exp(torch.linspace(0, 6, 32, device=when.device))
    angles = when[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
