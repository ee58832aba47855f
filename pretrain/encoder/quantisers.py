"""Quantisers: frames to codes, and to the vectors that stand for them."""

from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Quantised(NamedTuple):
    """Frames, quantised.

    Attributes:
        vectors: that stand for the frames (frames, dim).
        codes: of each codebook (frames, groups).
        probabilities: of the codes of each codebook (frames, groups, codes).
        loss: that keeps the codes in use, summed over the frames.
    """

    vectors: Tensor
    codes: Tensor
    probabilities: Tensor
    loss: Tensor


class Quantiser(Protocol):
    """Codes of frames, and vectors of codes."""

    def codes(self, frames: Tensor) -> Tensor:
        """Return the code of each codebook (..., groups) for frames (..., dim)."""

    def vectors(self, codes: Tensor) -> Tensor:
        """Return the vectors (..., out) that stand for codes (..., groups)."""

    def __call__(self, frames: Tensor, temperature: float) -> Quantised:
        """Quantise frames (frames, dim), with gradients, and at random if the quantiser is trained so."""


class GumbelQuantiser(nn.Module):
    """Product quantisation, trained through the Gumbel softmax (wav2vec 2.0, section 2: Baevski et al., 2006.11477).

    A frame picks one code of each codebook; its vector is the concatenation of theirs. In training the choice is
    random, and its gradient that of a softmax at some temperature (Jang et al., 2016, arXiv 1611.01144).

    Args:
        dim: of the frames.
        codes: in each codebook.
        groups: number of codebooks.
        out: dimension of the vectors.
        depth: layers that score the codes; 2 in vq-wav2vec.
    """

    def __init__(self, dim: int, *, codes: int = 320, groups: int = 2, out: int = 256, depth: int = 1) -> None:
        super().__init__()
        if out % groups:
            raise ValueError(f"vectors of {out} numbers cannot be divided among {groups} codebooks.")
        self.groups = groups
        widths = [dim, *[3 * dim] * (depth - 1), groups * codes]
        layers = [nn.Linear(*pair) for pair in pairwise(widths)]
        nn.init.normal_(layers[-1].weight)
        nn.init.zeros_(layers[-1].bias)
        self.score = nn.ModuleList(layers)
        self.codebooks = nn.Parameter(torch.empty(groups, codes, out // groups).uniform_())

    def forward(self, frames: Tensor, temperature: float) -> Quantised:
        """Quantise frames (frames, dim); at random in training, else by the most likely codes."""
        logits = self.logits(frames)
        codes = logits.argmax(-1)
        if self.training:
            choice = F.gumbel_softmax(logits, temperature, hard=True)
        else:
            choice = F.one_hot(codes, logits.shape[-1]).to(logits)
        vectors = torch.einsum("fgc,gcd->fgd", choice, self.codebooks.to(choice)).flatten(1)
        probabilities = logits.softmax(-1)
        unused = 1 - code_perplexity(probabilities.mean(0)) / probabilities[0].numel()
        return Quantised(vectors, codes, probabilities, unused * len(frames))

    def logits(self, frames: Tensor) -> Tensor:
        """Return the scores of the codes (..., groups, codes), float32, for frames (..., dim)."""
        for layer in self.score[:-1]:
            frames = F.gelu(layer(frames))
        return rearrange(self.score[-1](frames), "... (groups codes) -> ... groups codes", groups=self.groups).float()

    def codes(self, frames: Tensor) -> Tensor:
        """Return the most likely codes (..., groups) of frames (..., dim)."""
        return self.logits(frames).argmax(-1)

    def vectors(self, codes: Tensor) -> Tensor:
        """Return the vectors (..., out) of codes (..., groups)."""
        return chosen(self.codebooks, codes)


class KMeansQuantiser(nn.Module):
    """Product quantisation by the nearest code, with a straight-through gradient (vq-wav2vec: 1910.05453, section 3.2).

    Each group of a frame's channels is projected and normalised (there over time too; here over the channels, so that
    a code depends on its frame alone). The loss draws the codes to the frames, and the frames to the codes.

    Args:
        dim: of the frames, and of the vectors.
        codes: in each codebook.
        groups: number of codebooks.
        commitment: weight of the loss that draws frames to their codes.
    """

    def __init__(self, dim: int, *, codes: int = 320, groups: int = 2, commitment: float = 0.25) -> None:
        super().__init__()
        self.groups, self.commitment = groups, commitment
        self.project = nn.Conv1d(dim, dim, 1, groups=groups, bias=False)
        self.gain = nn.Parameter(torch.ones(groups, dim // groups))
        self.bias = nn.Parameter(torch.zeros(groups, dim // groups))
        # as long as the frames: published ones are a hundredth of that, and at first hide all differences
        self.codebooks = nn.Parameter(F.layer_norm(torch.randn(groups, codes, dim // groups), (dim // groups,)))

    def forward(self, frames: Tensor, temperature: float = 1.0) -> Quantised:
        """Quantise frames (frames, dim); never at random."""
        latents = self._latents(frames)
        codes = self._nearest(latents)
        vectors, latents = chosen(self.codebooks, codes).float(), latents.flatten(1)
        squares = (vectors - latents.detach()).square() + self.commitment * (latents - vectors.detach()).square()
        through = latents + (vectors - latents).detach()
        return Quantised(through, codes, F.one_hot(codes, self.codebooks.shape[1]).float(), squares.mean(1).sum())

    def codes(self, frames: Tensor) -> Tensor:
        """Return the nearest codes (..., groups) of frames (..., dim)."""
        return self._nearest(self._latents(frames.flatten(0, -2))).unflatten(0, frames.shape[:-1])

    def vectors(self, codes: Tensor) -> Tensor:
        """Return the vectors (..., dim) of codes (..., groups)."""
        return chosen(self.codebooks, codes)

    def _latents(self, frames: Tensor) -> Tensor:
        """Return projected frames (frames, groups, dim of a group), float32."""
        split = self.project(frames[:, :, None]).squeeze(2).unflatten(1, (self.groups, -1)).float()
        return F.layer_norm(split, split.shape[-1:]) * self.gain + self.bias

    def _nearest(self, latents: Tensor) -> Tensor:
        codebooks = self.codebooks.float()
        products = torch.einsum("fgd,gcd->fgc", latents, codebooks)
        return (products - codebooks.square().sum(-1) / 2).argmax(-1)


def chosen(codebooks: Tensor, codes: Tensor) -> Tensor:
    """Return the concatenated entries (..., groups * dim) of codebooks (groups, size, dim) for codes (..., groups)."""
    return codebooks[torch.arange(len(codebooks), device=codes.device), codes].flatten(-2)


def code_counts(quantised: Quantised) -> Tensor:
    """Return how often each code is the most likely one (groups, codes)."""
    return F.one_hot(quantised.codes, quantised.probabilities.shape[-1]).sum(0)


def code_perplexity(shares: Tensor) -> Tensor:
    """Return the sum over codebooks of the effective number of codes, given their shares (groups, codes)."""
    return (-(shares * (shares + 1e-7).log()).sum(-1)).exp().sum()


def temperature_at(progress: float, first: float, last: float, decay: float, steps: int) -> float:
    """Return a temperature that falls by the factor `decay` in each of `steps` steps, but not below `last`."""
    return max(first * decay ** (progress * steps), last)


class RandomProjectionQuantiser(nn.Module):
    """The nearest of random codes to a random projection, by the cosine (BEST-RQ: Chiu et al., 2022, 2202.01855).

    Args:
        dim: of the frames, which must be normalised: else few codes are used.
        codes: of each book.
        books: number of independent projections and codebooks.
        code_dim: that frames are projected to.
    """

    projection: Tensor
    codebooks: Tensor

    def __init__(self, dim: int, *, codes: int = 8192, books: int = 1, code_dim: int = 16) -> None:
        super().__init__()
        projection = nn.init.xavier_uniform_(torch.empty(books, code_dim, dim))
        self.register_buffer("projection", projection)
        self.register_buffer("codebooks", F.normalize(torch.randn(books, codes, code_dim), dim=-1))

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """Return the code of each book (..., books) of frames (..., dim)."""
        projected = torch.einsum("...d,bcd->...bc", frames.float(), self.projection)
        return torch.einsum("...bc,bkc->...bk", projected, self.codebooks).argmax(-1)
