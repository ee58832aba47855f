"""What every vocoder is: frames (batch, frames, dim) in, sound (batch, frames * hop) out."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor


class Vocoder(Protocol):
    """Anything that turns frames into sound.

    Attributes:
        dim: numbers in a frame.
        sample_rate: of the sound, in Hz.
        hop_length: samples that a frame becomes.
        reads: the features it reads, by name: `kind` (mel, mfcc, world, ssl, units) and what made them.
    """

    dim: int
    sample_rate: int
    hop_length: int

    @property
    def reads(self) -> Mapping[str, Any]:
        """Name the features."""

    def __call__(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Give the sound (batch, frames * hop) of frames (batch, frames, dim); a row ends after its length."""


def require(reads: Mapping[str, Any], made_by: Mapping[str, Any], what: str = "this") -> None:
    """Refuse features that a vocoder does not read.

    Args:
        reads: what the vocoder reads; only what it names must agree.
        made_by: what made the features.
        what: the features' name in the sentence.
    """
    differences = [
        f"{key} is {made_by.get(key)!r} where {wanted!r} is wanted"
        for key, wanted in reads.items()
        if made_by.get(key) != wanted
    ]
    if differences:
        raise ValueError(
            f"{what} does not fit this vocoder: {', '.join(differences)}; "
            "make the features again, or take a vocoder that was trained on these."
        )


def by_row(vocoder: Vocoder, generate: Callable[[Tensor], Tensor], frames: Tensor, lengths: Tensor | None) -> Tensor:
    """Generate each row from its own frames alone, rows of equal length together; zeros behind a shorter row's end.

    Args:
        vocoder: whose `dim` and `hop_length` count.
        generate: maps (rows, frames, dim) to (rows, frames * hop).
        frames: (batch, frames, dim).
        lengths: how many frames of each row are real (batch,); all if None.
    """
    if frames.ndim != 3 or frames.shape[2] != vocoder.dim:
        raise ValueError(
            f"the frames have shape {tuple(frames.shape)}; this vocoder reads (batch, frames, {vocoder.dim})."
        )
    total = frames.shape[1]
    if not len(frames) or not total:
        raise ValueError(f"the frames have shape {tuple(frames.shape)}; there must be at least one row and one frame.")
    lengths = torch.full((len(frames),), total) if lengths is None else torch.as_tensor(lengths).long()
    if lengths.shape != (len(frames),) or not (lengths.min() >= 1 and lengths.max() <= total):
        raise ValueError(f"lengths is {lengths.tolist()}; {len(frames)} rows need a number from 1 to {total} each.")
    lengths = lengths.to(frames.device)
    if bool((lengths == total).all()):
        return generate(frames)
    wav = frames.new_zeros(len(frames), total * vocoder.hop_length)
    for length in lengths.unique().tolist():
        rows = lengths == length
        wav[rows, : length * vocoder.hop_length] = generate(frames[rows, :length]).to(wav.dtype)
    return wav
