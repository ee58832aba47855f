"""Extractor: an encoder and one of its layers, for clips of any length in bounded memory.

A clip is read in windows of at most 12.6 s. Each gives the frames of its core; the context on both sides is as wide as
what the positional convolution sees, and is thrown away:

    window 1   |======= core 1 =======|--context--|
    window 2            |--context--|======= core 2 =======|--context--|
    frames     |======= core 1 ======= ======= core 2 ======= ...

What belongs to the whole utterance (input normalisation, the mean and variance of a GroupNorm front end) is measured
on the whole clip first, so only attention can tell a window from the whole.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from pretrain import SpeechEncoder
from pretrain.encoder.frontend import FIELD, HOP
from pretrain.encoder.model import Statistics
from ssl_vc.audio import SAMPLE_RATE, AudioError, Source, read
from ssl_vc.device import choose_device, fast_bfloat16
from ssl_vc.features.cepstra import DIM as CEPSTRA
from ssl_vc.features.cepstra import joined
from ssl_vc.files import printable, replacing
from ssl_vc.hub.registry import load_encoder

CORE = 500  # frames: 10 s
CONTEXT = 64  # frames on each side, 1.28 s, unless an encoder's positional convolution is wider
BATCH_SECONDS = {"cpu": 13.0}  # what is computed at once: more than a window does not help a CPU
BATCH_SECONDS_ELSEWHERE = 200.0


@dataclass(frozen=True)
class FrameSpec:
    """What made some frames. Frames of two makes must never be mixed.

    Attributes:
        encoder: fingerprint of the encoder up to the layer.
        layer: the layer whose output the frames are.
        normalized: whether the waveform was brought to zero mean and unit variance first.
        dim: numbers in a frame.
        sample_rate: of the waveform, in Hz.
        hop_length: samples from one frame to the next.
        cepstra: weight of the sound's own cepstra beside the layer's output, see `ssl_vc.features.cepstra`; 0: there
            are none.
    """

    encoder: str
    layer: int
    normalized: bool
    dim: int
    sample_rate: int = SAMPLE_RATE
    hop_length: int = HOP
    cepstra: float = 0.0

    @property
    def facts(self) -> dict[str, Any]:
        """What vocoders call these features."""
        facts = {"kind": "ssl", **asdict(self)}
        return facts if self.cepstra else {name: fact for name, fact in facts.items() if name != "cepstra"}

    def require(self, other: "FrameSpec", what: str) -> None:
        """Refuse `other`, the spec of `what`, if its frames are not of this make."""
        mine, theirs = asdict(self), asdict(other)
        differences = [f"{key} {theirs[key]} instead of {mine[key]}" for key in mine if mine[key] != theirs[key]]
        if differences:
            raise ValueError(f"{what} does not fit: it has {', '.join(differences)}. Make it again with this encoder.")


class Window(NamedTuple):
    """A stretch of frames `start` .. `stop` to compute, of which `keep_start` .. `keep_stop` are kept."""

    start: int
    keep_start: int
    keep_stop: int
    stop: int


def plan_windows(frames: int, core: int = CORE, context: int = CONTEXT) -> list[Window]:
    """Divide a clip into windows of equal cores; a clip that fits into one window is not divided."""
    if frames <= core + 2 * context:
        return [Window(0, 0, frames, frames)]
    count = -(-frames // core)
    edges = [frames * i // count for i in range(count + 1)]
    return [
        Window(max(start - context, 0), start, stop, min(stop + context, frames)) for start, stop in pairwise(edges)
    ]


class Extractor:
    """Turn clips into frames of one layer.

    Args:
        encoder: the encoder; it is left as it is, and shares its float32 weights: do not train it meanwhile.
        layer: which layer's frames; None takes the encoder's own matching layer.
        device: `auto` (CUDA, else CPU), or a torch device.
        dtype: `auto` (bfloat16 where the hardware computes with it, else float32), `float32` or `bfloat16`. Frames are
            float32 either way.
        weight: of the sound's own cepstra beside the frames, see `ssl_vc.features.cepstra`; None takes what the
            encoder's config says for its matching layer, and none (0) for any other.
    """

    sample_rate = SAMPLE_RATE
    hop_length = HOP

    def __init__(
        self,
        encoder: SpeechEncoder,
        layer: int | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        weight: float | None = None,
    ) -> None:
        layer = encoder.config.matching_layer if layer is None else layer
        if layer is None:
            raise ValueError(f"no layer is recommended for this encoder; choose one of 0 to {encoder.config.depth}.")
        self.device = choose_device(device)
        self.dtype = _choose_dtype(dtype, self.device)
        config = encoder.config
        if weight is None:
            weight = config.cepstra if layer == config.matching_layer else 0.0
        dim = config.dim + CEPSTRA if weight else config.dim
        self.spec = FrameSpec(encoder.fingerprint(layer), layer, config.normalized, dim, cepstra=weight)
        self.context = max(CONTEXT, config.pos_kernel // 2 + 2)
        self.encoder = encoder.first_layers(layer).eval().requires_grad_(False).to(self.device, self.dtype)

    @classmethod
    def from_pretrained(
        cls,
        name: str = "tiny",
        layer: int | None = None,
        *,
        normalized: bool | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> Self:
        """Load an encoder by name (see `ssl_vc.hub.registry.load_encoder`) and make its extractor."""
        return cls(load_encoder(name, normalized), layer, device=device, dtype=dtype)

    def __call__(self, source: Source, *, every_hop: bool = False) -> Tensor:
        """Give the frames (frames, dim) of a clip.

        Args:
            source: see `ssl_vc.read`.
            every_hop: give a frame for every hop of the clip, the last one begun too, hearing silence behind the end.
                Else the last frames are missing that would hear it, since a frame hears more than its hop.
        """
        return torch.cat(list(self.stream(source, every_hop=every_hop)))

    def stream(self, source: Source, *, every_hop: bool = False) -> Iterator[Tensor]:
        """Give the frames of a clip in order, piece by piece (some frames, dim), so that memory stays bounded."""
        wav = self._read(source, FIELD - HOP if every_hop else None)
        return (piece for _, piece in self._pieces([wav]))

    def batch(self, sources: Sequence[Source]) -> list[Tensor]:
        """Give the frames of several clips, computed together; each is as if it had been alone."""
        pieces: list[list[Tensor]] = [[] for _ in sources]
        clips = [self._read(source) for source in sources]
        order = sorted(range(len(clips)), key=lambda i: len(clips[i]))  # neighbours in a batch need little padding
        for which, piece in self._pieces([clips[i] for i in order]):
            pieces[order[which]].append(piece)
        return [torch.cat(parts) for parts in pieces]

    def save(self, source: Source, path: str | Path) -> int:
        """Write the frames of a clip to a file that `read_frames` reads, and give their number."""
        wav = self._read(source)
        count = SpeechEncoder.num_frames(len(wav))
        facts = {"source": _printable(source), "dtype": str(self.dtype).removeprefix("torch.")}
        write_frames(path, (piece for _, piece in self._pieces([wav])), count, self.spec, facts)
        return count

    def _read(self, source: Source, silence: int | None = None) -> Tensor:
        """Read a clip; with `silence`, fill up its last hop and add so many samples."""
        wav = read(source, speech=True)
        if silence is not None:
            wav = pad(wav, (0, -len(wav) % HOP + silence))
        if SpeechEncoder.num_frames(len(wav)) < 1:
            name = _printable(source) or "the clip"
            raise AudioError(f"{name!r} has {len(wav)} samples at 16 kHz; one frame needs {FIELD} (25 ms).")
        return wav

    def _pieces(self, clips: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """Give (index of the clip, some of its frames), the frames of each clip in order."""
        pieces = self._heard(clips)
        return joined(pieces, clips, self.spec.cepstra) if self.spec.cepstra else pieces

    @torch.no_grad()
    def _heard(self, clips: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
        waiting: list[_Part] = []
        budget = BATCH_SECONDS.get(self.device.type, BATCH_SECONDS_ELSEWHERE) * self.sample_rate
        for index, wav in enumerate(clips):
            statistics = self.encoder.statistics(wav[None])
            frames = SpeechEncoder.num_frames(len(wav))
            for window in plan_windows(frames, context=self.context):
                # the last one takes the samples after its last frame too: a log-mel front end still hears them
                stop = len(wav) if window.stop == frames else (window.stop - 1) * HOP + FIELD
                part = _Part(index, window, statistics, wav[window.start * HOP : stop])
                longest = max(len(other.wav) for other in (*waiting, part))
                if waiting and longest * (len(waiting) + 1) > budget:
                    yield from self._compute(waiting)
                    waiting = []
                waiting.append(part)
        if waiting:
            yield from self._compute(waiting)

    def _compute(self, parts: "list[_Part]") -> Iterator[tuple[int, Tensor]]:
        wav = pad_sequence([part.wav for part in parts], batch_first=True).to(self.device)
        lengths = torch.tensor([len(part.wav) for part in parts], device=self.device)
        statistics = Statistics.stack([part.statistics for part in parts], self.device)
        frames = self.encoder(wav, lengths, self.spec.layer, statistics=statistics).float().cpu()
        for part, row in zip(parts, frames, strict=True):
            start, keep_start, keep_stop, _ = part.window
            yield part.clip, row[keep_start - start : keep_stop - start].clone()


class _Part(NamedTuple):
    clip: int
    window: Window
    statistics: Statistics
    wav: Tensor


def _printable(source: Source) -> str:
    """Name a source in text that any file and terminal takes; nothing for what has no name."""
    return printable(source) if isinstance(source, str | os.PathLike) else ""


def write_frames(
    path: str | Path, pieces: Iterable[Tensor], count: int, spec: FrameSpec, facts: Mapping[str, str] | None = None
) -> Path:
    """Write frames as they come, in the safetensors format, with what made them.

    Args:
        path: the file, ending in .safetensors; its folder is made if need be.
        pieces: float32 tensors (some frames, dim), in order.
        count: how many frames they hold together.
        spec: what made them.
        facts: what else the file should say, for people: `source`, `dtype` of the computation.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} does not end in .safetensors, as a file of frames does.")
    size = 4 * count * spec.dim
    metadata = {**(facts or {}), "spec": json.dumps(asdict(spec)), "format": "ssl-vc frames 1"}
    tensor = {"dtype": "F32", "shape": [count, spec.dim], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": metadata, "frames": tensor}).encode()
    header += b" " * (-len(header) % 8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            written = sum(file.write(np.ascontiguousarray(piece.numpy(), dtype="<f4").data) for piece in pieces)
            if written != size:
                raise ValueError(f"{written // 4 // spec.dim} frames came for {path}, where {count} were announced.")
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path} cannot be written: {reason}; check the folder, its permissions and its disk.") from error
    return path


def read_frames(path: str | Path) -> tuple[Tensor, FrameSpec]:
    """Read frames (frames, dim) that `ssl-vc extract` wrote, and what made them."""
    if not Path(path).is_file():
        raise ValueError(f"{path} does not exist or is no file.")
    try:
        with safe_open(path, "pt") as file:
            spec = FrameSpec(**json.loads(file.metadata()["spec"]))
            frames = file.get_tensor("frames")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file of frames made by `ssl-vc extract` ({error}).") from None
    if frames.ndim != 2 or frames.shape[1] != spec.dim:
        raise ValueError(f"{path} holds a tensor of shape {tuple(frames.shape)}; its header says (frames, {spec.dim}).")
    return frames, spec


def _choose_dtype(name: str, device: torch.device) -> torch.dtype:
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name == "auto":
        return torch.bfloat16 if fast_bfloat16(device) else torch.float32
    if name not in dtypes:
        raise ValueError(f"dtype is {name!r}; possible are auto, float32 and bfloat16.")
    return dtypes[name]
