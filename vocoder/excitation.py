"""Excitation: what a voice's filter shapes. Pulses at the pitch, none of whose harmonics folds back, and noise.

Phases add up over a whole clip, and a network hears a second of it at most; so each frame is marked, in order, with how
many cycles went by before its middle, and with its number. Whatever window of frames is made then sounds the same:

    frame       |    0    |    1    |    2    |
    marked           x         x         x          cycles at the middle, and which piece of noise
    F0               o---------o---------o          linear from middle to middle
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NOISE = 500  # frames of noise, after which it comes again
LEVEL = 0.1  # of the noise; that of the pulses is about as much


class Mark(NamedTuple):
    """Where a clip's excitation stands after some frames."""

    f0: Tensor  # of the last frame (batch,), in Hz
    cycles: Tensor  # at its middle (batch,)
    number: Tensor  # of the next frame (batch,)


class Excitation(nn.Module):
    """Makes pulses and noise of frames whose first number is the logarithm of F0, which goes on where none is heard.

    Args:
        sample_rate: of the sound, in Hz.
        hop_length: samples to a frame.
    """

    noise: Tensor

    def __init__(self, sample_rate: int, hop_length: int) -> None:
        super().__init__()
        self.sample_rate, self.hop_length = sample_rate, hop_length
        noise = torch.randn(NOISE, hop_length, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", LEVEL * noise, persistent=False)

    def mark(self, frames: Tensor, before: Mark | None) -> tuple[Tensor, Mark]:
        """Put marks behind frames (batch, frames, dim) that follow on others; in training they begin anywhere."""
        frames = frames.float()
        f0 = self._f0(frames).double()
        if before is None:
            cycles, number = f0.new_empty(2, len(frames)).uniform_() if self.training else f0.new_zeros(2, len(frames))
            before = Mark(f0[:, 0], cycles - f0[:, 0] * self.hop_length / self.sample_rate, (NOISE * number).floor())
        means = (torch.cat([before.f0[:, None], f0[:, :-1]], 1) + f0) / 2
        cycles = before.cycles[:, None] + (means * self.hop_length / self.sample_rate).cumsum(1)
        numbers = before.number[:, None] + torch.arange(f0.shape[1], device=f0.device)
        after = Mark(f0[:, -1], cycles[:, -1] % 1, (numbers[:, -1] + 1) % NOISE)
        marks = torch.stack([cycles % 1, numbers % NOISE], 2).to(frames)
        return torch.cat([frames, marks], 2), after

    def forward(self, marked: Tensor) -> tuple[Tensor, Tensor]:
        """Give pulses and noise (batch, frames * hop) for marked frames (batch, frames, dim + 2)."""
        noise = self.noise[marked[..., -1].long()].flatten(1)
        return self._pulses(self._f0(marked), marked[..., -2]), noise

    def _f0(self, frames: Tensor) -> Tensor:
        return frames[..., 0].float().exp().clamp(20, self.sample_rate / 4)

    def _pulses(self, f0: Tensor, cycles: Tensor) -> Tensor:
        hop, rate = self.hop_length, self.sample_rate
        left, right = torch.cat([f0[:, :1], f0], 1)[..., None], torch.cat([f0, f0[:, -1:]], 1)[..., None]
        begun = torch.cat([cycles[:, :1] - f0[:, :1] * hop / rate, cycles], 1)[..., None]
        step = torch.arange(hop, device=f0.device)
        now = left + (right - left) * step / hop
        phase = begun + (left + now) / 2 * step / rate
        pulses = torch.sinc((phase - phase.round()) * rate / now).flatten(1)
        return F.pad(pulses, (-(hop // 2), hop // 2 - hop))
