"""HiFi-GAN on discrete units: the concatenated embeddings of content, pitch and speaker.

Polyak, Adi, Copet, Kharitonov, Lakhotia, Hsu, Mohamed and Dupoux, 2021, "Speech Resynthesis from Discrete Disentangled
Self-Supervised Representations", arXiv 2104.00355. Here the streams share one frame rate and one tensor, so that this
vocoder is used and trained like the others; `UnitHiFiGAN.frames` joins them.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vocoder.hifigan import HiFiGAN, HiFiGANConfig

Pitch = Literal["none", "codes", "hertz"]


@dataclass(frozen=True)
class UnitHiFiGANConfig(HiFiGANConfig):
    """The shape of a `UnitHiFiGAN`. `dim` follows from the streams: unit, pitch, speaker.

    Attributes:
        units: size of the unit codebook.
        unit_dim: width of a unit's embedding.
        pitch: `none`; `codes` (quantised F0) or `hertz` (continuous F0, 0 where unvoiced).
        pitch_codes: number of codes of quantised F0.
        pitch_dim: width of the pitch's embedding.
        speakers: rows of the speaker embedding table; 0 for none.
        speaker_vector: size of a speaker vector, such as a mean frame or a d-vector; 0 for none.
        speaker_dim: width of the speaker's embedding.
    """

    kind: str = "unit-hifigan"
    dim: int = 1
    projection: int = 0
    rates: tuple[int, ...] = (5, 4, 4, 2, 2)
    kernels: tuple[int, ...] = (11, 8, 8, 4, 4)
    units: int = 100
    unit_dim: int = 128
    pitch: Pitch = "none"
    pitch_codes: int = 20
    pitch_dim: int = 128
    speakers: int = 0
    speaker_vector: int = 0
    speaker_dim: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pitch not in ("none", "codes", "hertz"):
            raise ValueError(f"pitch is {self.pitch!r}; possible are 'none', 'codes' and 'hertz'.")
        if self.speakers and self.speaker_vector:
            raise ValueError("a speaker comes from a table (speakers) or as a vector (speaker_vector), not both.")
        if self.harmonic:
            raise ValueError("harmonic is true, but a frame starts with its unit, not log-F0; set it to false.")
        dim = 1 + (self.pitch != "none") + bool(self.speakers) + self.speaker_vector
        if self.dim not in (1, dim):
            raise ValueError(f"dim is {self.dim}; unit, pitch and speaker add up to {dim}.")
        object.__setattr__(self, "dim", dim)

    def _minimum(self, name: str) -> int:
        return 0 if name in ("projection", "speakers", "speaker_vector") else 1


class UnitHiFiGAN(HiFiGAN):
    """HiFi-GAN on embeddings: (batch, frames, dim) to (batch, frames * hop_length)."""

    config: UnitHiFiGANConfig

    def __init__(self, config: UnitHiFiGANConfig | None = None) -> None:
        config = config or UnitHiFiGANConfig()
        super().__init__(config)
        self.unit = nn.Embedding(config.units, config.unit_dim)
        self.pitch: nn.Module | None = None
        if config.pitch == "codes":
            self.pitch = nn.Embedding(config.pitch_codes, config.pitch_dim)
        elif config.pitch == "hertz":
            self.pitch = nn.Linear(2, config.pitch_dim)  # log-F0 and voicing
        self.speaker: nn.Module | None = None
        if config.speakers:
            self.speaker = nn.Embedding(config.speakers, config.speaker_dim)
        elif config.speaker_vector:
            self.speaker = nn.Linear(config.speaker_vector, config.speaker_dim)

    def _input_width(self) -> int:
        config = self.config
        pitch = config.pitch_dim if config.pitch != "none" else 0
        return config.unit_dim + pitch + (config.speaker_dim if config.speakers or config.speaker_vector else 0)

    def frames(self, units: Tensor, pitch: Tensor | None = None, speaker: Tensor | None = None) -> Tensor:
        """Join the streams of a batch as (batch, frames, dim).

        Args:
            units: (batch, frames), below the number of units.
            pitch: (batch, n), codes or Hz; repeated to the frame rate if n is less than frames.
            speaker: (batch,) rows of the table, or (batch, speaker_vector).
        """
        batch, count = units.shape
        streams = [units.float()[:, :, None]]
        if (pitch is None) == (self.pitch is not None):
            raise ValueError(
                f"this vocoder's pitch is {self.config.pitch!r}; pitch was {'not ' * (pitch is None)}given."
            )
        if (speaker is None) == (self.speaker is not None):
            raise ValueError(
                f"this vocoder has {'a' if self.speaker else 'no'} speaker input; one was "
                f"{'not ' * (speaker is None)}given."
            )
        if pitch is not None:
            nearest = (torch.arange(count, device=pitch.device) * pitch.shape[1]).div(count, rounding_mode="floor")
            streams.append(pitch.float()[:, nearest, None])
        if speaker is not None:
            streams.append(speaker.float().reshape(batch, 1, -1).expand(batch, count, -1))
        return torch.cat(streams, dim=2)

    def generate(self, frames: Tensor) -> Tensor:
        """Map unpadded rows (batch, frames, dim) to (batch, frames * hop_length)."""
        embeddings, dtype = [_embed(self.unit, frames[..., 0], "units")], self.conv_pre.weight.dtype
        if isinstance(self.pitch, nn.Embedding):
            embeddings.append(_embed(self.pitch, frames[..., 1], "pitch codes"))
        elif self.pitch is not None:
            hertz = frames[..., 1]
            voiced = hertz > 0
            log_f0 = torch.where(voiced, hertz.clamp(min=1.0).log() - 5.0, 0.0)  # 0 at 148 Hz
            embeddings.append(self.pitch(torch.stack([log_f0, voiced.float()], dim=-1).to(dtype)))
        if isinstance(self.speaker, nn.Embedding):
            embeddings.append(_embed(self.speaker, frames[..., -1], "speakers"))
        elif self.speaker is not None:
            embeddings.append(self.speaker(frames[..., -self.config.speaker_vector :].to(dtype)))
        return self.upsample(self.lin_pre(torch.cat(embeddings, dim=-1)).transpose(1, 2))


def _embed(table: nn.Embedding, indices: Tensor, name: str) -> Tensor:
    rows = indices.round().long()
    if rows.min() < 0 or rows.max() >= table.num_embeddings:
        raise ValueError(
            f"the {name} range from {rows.min()} to {rows.max()}; this vocoder knows 0 to {table.num_embeddings - 1}."
        )
    return table(rows)
