"""The vocoder protocol: frames (batch, frames, dim) in, waveforms (batch, frames * hop_length) out."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor


class Vocoder(Protocol):
    """Anything that turns frames into a waveform.

    Attributes:
        dim: size of a frame.
        sample_rate: of the waveform, in Hz.
        hop_length: samples per frame.
        reads: the input features: `kind` (mel, mfcc, world, ssl, units) and how they were extracted.
    """

    dim: int
    sample_rate: int
    hop_length: int

    @property
    def reads(self) -> Mapping[str, Any]:
        """The input features."""

    def __call__(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Returns waveforms (batch, frames * hop_length) for frames (batch, frames, dim), zero beyond each length."""


def check_features(reads: Mapping[str, Any], features: Mapping[str, Any], name: str = "this") -> None:
    """Refuse features that a vocoder was not built for.

    Args:
        reads: what the vocoder reads; only the keys present here must match.
        features: what the frames are.
        name: the features' name in the error message.
    """
    differences = [
        f"{key} is {features.get(key)!r} where {expected!r} is wanted"
        for key, expected in reads.items()
        if features.get(key) != expected
    ]
    if differences:
        raise ValueError(
            f"{name} does not fit this vocoder: {', '.join(differences)}; "
            "extract the features again, or use a vocoder trained on these."
        )


def generate_by_length(
    vocoder: Vocoder, generate: Callable[[Tensor], Tensor], frames: Tensor, lengths: Tensor | None
) -> Tensor:
    """Generate rows of equal length together, so that no row sees padding; zeros follow a shorter row.

    Args:
        vocoder: its `dim` and `hop_length` are used.
        generate: maps (rows, frames, dim) to (rows, frames * hop_length).
        frames: (batch, frames, dim).
        lengths: valid frames of each row (batch,); all if None.
    """
    if frames.ndim != 3 or frames.shape[2] != vocoder.dim:
        raise ValueError(
            f"the frames have shape {tuple(frames.shape)}; this vocoder reads (batch, frames, {vocoder.dim})."
        )
    total = frames.shape[1]
    if not len(frames) or not total:
        raise ValueError(f"the frames have shape {tuple(frames.shape)}; at least one row and one frame are needed.")
    lengths = torch.full((len(frames),), total) if lengths is None else torch.as_tensor(lengths).long()
    if lengths.shape != (len(frames),) or not (lengths.min() >= 1 and lengths.max() <= total):
        raise ValueError(f"lengths is {lengths.tolist()}; {len(frames)} rows need one length from 1 to {total} each.")
    lengths = lengths.to(frames.device)
    if bool((lengths == total).all()):
        return generate(frames)
    wav = frames.new_zeros(len(frames), total * vocoder.hop_length)
    for length in lengths.unique().tolist():
        rows = lengths == length
        wav[rows, : length * vocoder.hop_length] = generate(frames[rows, :length]).to(wav.dtype)
    return wav
