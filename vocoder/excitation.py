"""Harmonic excitation for source-filter vocoders: band-limited pulses at F0, and noise.

Phase accumulates over a whole clip, but a network sees a window of it; so each frame, in order, gets two more columns:
the cycles elapsed at its centre, and the index of its noise. Any window of frames then sounds the same:

    frame       |    0    |    1    |    2    |
    columns          x         x         x          cycles at the centre, and the noise index
    F0               o---------o---------o          linear from centre to centre
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NOISE_FRAMES = 500  # frames until the noise repeats
NOISE_LEVEL = 0.1  # about that of the pulses


class PhaseState(NamedTuple):
    """The excitation's state between two chunks of a clip."""

    f0: Tensor  # of the last frame (batch,), in Hz
    cycles: Tensor  # at its centre (batch,)
    noise_index: Tensor  # of the next frame (batch,)


class Excitation(nn.Module):
    """Pulses and noise for frames whose first column is log-F0, interpolated through unvoiced frames.

    Args:
        sample_rate: of the waveform, in Hz.
        hop_length: samples per frame.
    """

    noise: Tensor

    def __init__(self, sample_rate: int, hop_length: int) -> None:
        super().__init__()
        self.sample_rate, self.hop_length = sample_rate, hop_length
        noise = torch.randn(NOISE_FRAMES, hop_length, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", NOISE_LEVEL * noise, persistent=False)

    def add_phase(self, frames: Tensor, state: PhaseState | None) -> tuple[Tensor, PhaseState]:
        """Append cycles and noise index to frames (batch, frames, dim); in training both start at random."""
        frames = frames.float()
        f0 = self._f0(frames).double()
        if state is None:
            cycles, index = f0.new_empty(2, len(frames)).uniform_() if self.training else f0.new_zeros(2, len(frames))
            before = cycles - f0[:, 0] * self.hop_length / self.sample_rate
            state = PhaseState(f0[:, 0], before, (NOISE_FRAMES * index).floor())
        means = (torch.cat([state.f0[:, None], f0[:, :-1]], 1) + f0) / 2
        cycles = state.cycles[:, None] + (means * self.hop_length / self.sample_rate).cumsum(1)
        indices = state.noise_index[:, None] + torch.arange(f0.shape[1], device=f0.device)
        after = PhaseState(f0[:, -1], cycles[:, -1] % 1, (indices[:, -1] + 1) % NOISE_FRAMES)
        columns = torch.stack([cycles % 1, indices % NOISE_FRAMES], 2).to(frames)
        return torch.cat([frames, columns], 2), after

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Returns pulses and noise (batch, frames * hop_length) for frames with phase (batch, frames, dim + 2)."""
        noise = self.noise[frames[..., -1].long()].flatten(1)
        return self._pulses(self._f0(frames), frames[..., -2]), noise

    def _f0(self, frames: Tensor) -> Tensor:
        return frames[..., 0].float().exp().clamp(20, self.sample_rate / 4)

    def _pulses(self, f0: Tensor, cycles: Tensor) -> Tensor:
        hop, rate = self.hop_length, self.sample_rate
        left, right = torch.cat([f0[:, :1], f0], 1)[..., None], torch.cat([f0, f0[:, -1:]], 1)[..., None]
        start = torch.cat([cycles[:, :1] - f0[:, :1] * hop / rate, cycles], 1)[..., None]
        step = torch.arange(hop, device=f0.device)
        current = left + (right - left) * step / hop
        phase = start + (left + current) / 2 * step / rate
        pulses = torch.sinc((phase - phase.round()) * rate / current).flatten(1)
        return F.pad(pulses, (-(hop // 2), hop // 2 - hop))
