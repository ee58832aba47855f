"""Flow matching: a decoder that transports noise to frames along straight paths.

Lipman, Chen, Ben-Hamu, Nickel and Le, 2022, "Flow Matching for Generative Modeling", arXiv 2210.02747: on the path
x_t = (1 - t) noise + t frames, a network learns the velocity frames - noise; a few Euler steps integrate it. Without a
flow the same network regresses the frames.
"""

import torch
from torch import Tensor, nn

from ssl_vc.tts.convnext import convnext_blocks

TIME_DIM = 64  # of the time embedding


class Decoder(nn.Module):
    """Hidden states, repeated by duration, to frames.

    Args:
        hidden_dim: of the hidden states.
        dim: of the frames.
        width: of the network.
        depth: its number of blocks.
        flow: whether to learn a flow; otherwise a regression.
    """

    def __init__(self, hidden_dim: int, dim: int, width: int, depth: int, flow: bool) -> None:
        super().__init__()
        self.flow = flow
        self.condition = nn.Linear(hidden_dim + dim, width)
        self.noisy = nn.Linear(dim, width) if flow else None
        self.time_mlp = nn.Sequential(nn.Linear(TIME_DIM, width), nn.GELU(), nn.Linear(width, width)) if flow else None
        self.blocks = convnext_blocks(width, depth)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, dim)

    def forward(self, hidden: Tensor, means: Tensor, noisy: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        """Returns the velocity of noisy frames at times t (batch,) from 0 to 1; without a flow, the frames."""
        y = self.condition(torch.cat([hidden, means], 2))
        if self.noisy is not None and self.time_mlp is not None:
            assert noisy is not None and t is not None
            y = y + self.noisy(noisy) + self.time_mlp(time_embedding(t))[:, None]
        for block in self.blocks:
            y = block(y)
        velocity: Tensor = self.out(self.norm(y))
        return velocity

    def loss(self, hidden: Tensor, means: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Returns the mean squared error on frames (batch, frames, dim), where `mask` (batch, frames, 1) is set."""
        if not self.flow:
            return ((self(hidden, means) - frames).square() * mask).sum() / (mask.sum() * frames.shape[2])
        noise, t = torch.randn_like(frames), torch.rand(len(frames), device=frames.device)
        share = t[:, None, None]
        velocity = self(hidden, means, (1 - share) * noise + share * frames, t)
        return ((velocity - (frames - noise)).square() * mask).sum() / (mask.sum() * frames.shape[2])

    def sample(
        self, hidden: Tensor, means: Tensor, steps: int, temperature: float, generator: torch.Generator | None
    ) -> Tensor:
        """Returns frames (batch, frames, dim) after some Euler steps from noise of this standard deviation."""
        if not self.flow:
            return self(hidden, means)
        x = temperature * torch.randn(means.shape, generator=generator, device="cpu").to(means)
        for step in range(steps):
            t = torch.full((len(means),), step / steps, device=means.device)
            x = x + self(hidden, means, x, t) / steps
        return x


def time_embedding(t: Tensor) -> Tensor:
    """Returns sinusoidal embeddings (batch, 64) of times (batch,)."""
    rates = torch.exp(torch.linspace(0, 6, TIME_DIM // 2, device=t.device))
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
