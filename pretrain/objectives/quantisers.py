"""Quantisers inside objectives: frames to codes, and to the vectors that stand for them."""

from itertools import pairwise
from typing import NamedTuple

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
    """

    vectors: Tensor
    codes: Tensor
    probabilities: Tensor


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
        x = frames
        for layer in self.score[:-1]:
            x = F.gelu(layer(x))
        logits = rearrange(
            self.score[-1](x), "frames (groups codes) -> frames groups codes", groups=self.groups
        ).float()
        codes = logits.argmax(-1)
        if self.training:
            choice = F.gumbel_softmax(logits, temperature, hard=True)
        else:
            choice = F.one_hot(codes, logits.shape[-1]).to(logits)
        vectors = torch.einsum("fgc,gcd->fgd", choice, self.codebooks.to(choice)).flatten(1)
        return Quantised(vectors, codes, logits.softmax(-1))


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
