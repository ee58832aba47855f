"""Extractor: frames of one encoder layer, for clips of any length in bounded memory.

A clip is encoded in windows of at most 12.6 s. Only the frames of a window's core are kept; the context on both sides
spans the receptive field of the positional convolution:

    window 1   |======= core 1 =======|--context--|
    window 2            |--context--|======= core 2 =======|--context--|
    frames     |======= core 1 ======= ======= core 2 ======= ...

Statistics of the whole utterance (input normalisation, the mean and variance of a GroupNorm front end) are measured
first, so windows differ from the whole in their attention alone.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pretrain import SpeechEncoder
from pretrain.encoder.framing import HOP, RECEPTIVE_FIELD
from pretrain.encoder.frontend import Statistics
from ssl_vc.audio import SAMPLE_RATE, AudioError, Source
from ssl_vc.device import choose_device, fast_bfloat16
from ssl_vc.features.cepstra import DIM as CEPSTRA
from ssl_vc.features.cepstra import stream_with_cepstra
from ssl_vc.features.frame_spec import FrameSpec as FrameSpec
from ssl_vc.features.waveform import Waveform, WaveformFile, pad_end, read_waveform
from ssl_vc.files import printable, replacing
from ssl_vc.hub.registry import load_encoder

CORE = 500  # frames: 10 s
CONTEXT = 64  # frames on each side, 1.28 s, unless an encoder's positional convolution is wider
BATCH_SECONDS = {"cpu": 13.0}  # computed at once: more than a window does not help a CPU
BATCH_SECONDS_ELSEWHERE = 200.0


class Window(NamedTuple):
    """Frames `start` .. `stop` are computed, of which `keep_start` .. `keep_stop` are kept."""

    start: int
    keep_start: int
    keep_stop: int
    stop: int


def plan_windows(frames: int, core: int = CORE, context: int = CONTEXT) -> list[Window]:
    """Divide a clip into windows with equal cores; a clip that fits into one window is not divided."""
    if frames <= core + 2 * context:
        return [Window(0, 0, frames, frames)]
    count = -(-frames // core)
    edges = [frames * i // count for i in range(count + 1)]
    return [
        Window(max(start - context, 0), start, stop, min(stop + context, frames)) for start, stop in pairwise(edges)
    ]


class Extractor:
    """Extract frames of one layer.

    Args:
        encoder: the encoder; it is not modified, but shares its float32 weights: do not train it meanwhile.
        layer: index of the layer; the encoder's matching layer if None.
        device: `auto` (CUDA, else CPU), or a torch device.
        dtype: `auto` (bfloat16 where the hardware supports it, else float32), `float32` or `bfloat16`. Frames are
            float32 either way.
        weight: of the cepstra appended to the frames, see `ssl_vc.features.cepstra`; if None, what the encoder's
            config says for its matching layer, and 0 for any other.
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
        self.context = config.context_frames
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
        """Load an encoder by name, see `ssl_vc.hub.registry.load_encoder`."""
        return cls(load_encoder(name, normalized), layer, device=device, dtype=dtype)

    def to(self, device: str | torch.device) -> Self:
        """Move the encoder to a device, without a change of its dtype, and return the extractor."""
        self.device = choose_device(str(device))
        self.encoder.to(self.device)
        return self

    def __repr__(self) -> str:
        spec, dtype = self.spec, str(self.dtype).removeprefix("torch.")
        return f"Extractor(encoder {spec.encoder}, layer {spec.layer}, {spec.dim} dimensions, {self.device}, {dtype})"

    def __call__(self, source: Source, *, every_hop: bool = False) -> Tensor:
        """Return the frames (frames, dim) of a clip.

        Args:
            source: see `ssl_vc.read`.
            every_hop: return a frame for every hop, including a partial last one, by padding the clip with silence.
                Otherwise only frames whose receptive field lies within the clip are returned.
        """
        return torch.cat(list(self.stream(source, every_hop=every_hop)))

    def stream(self, source: Source | WaveformFile, *, every_hop: bool = False) -> Iterator[Tensor]:
        """Return the frames of a clip in order, in chunks (frames, dim), so that memory stays bounded."""
        wav = self._read(source, RECEPTIVE_FIELD - HOP if every_hop else None)
        return (chunk for _, chunk in self._chunks([wav]))

    def batch(self, sources: Sequence[Source]) -> list[Tensor]:
        """Return the frames of several clips, computed together; each is the same as if computed alone."""
        chunks: list[list[Tensor]] = [[] for _ in sources]
        clips = [self._read(source) for source in sources]
        order = sorted(range(len(clips)), key=lambda i: len(clips[i]))  # neighbours in a batch need little padding
        for index, chunk in self._chunks([clips[i] for i in order]):
            chunks[order[index]].append(chunk)
        return [torch.cat(parts) for parts in chunks]

    def save(self, source: Source, path: str | Path) -> int:
        """Write the frames of a clip to a file for `read_frames`, and return how many there are."""
        wav = self._read(source)
        count = SpeechEncoder.num_frames(len(wav))
        metadata = {"source": _printable(source), "dtype": str(self.dtype).removeprefix("torch.")}
        write_frames(path, (chunk for _, chunk in self._chunks([wav])), count, self.spec, metadata)
        return count

    def _read(self, source: Source | WaveformFile, silence: int | None = None) -> Waveform:
        """Read a clip; pad its last hop and append `silence` samples, unless that is None."""
        wav = source if isinstance(source, WaveformFile) else read_waveform(source)
        if silence is not None:
            wav = pad_end(wav, -len(wav) % HOP + silence)
        if SpeechEncoder.num_frames(len(wav)) < 1:
            name = _printable(source) or "the clip"
            raise AudioError(f"{name!r} has {len(wav)} samples at 16 kHz; one frame needs {RECEPTIVE_FIELD} (25 ms).")
        return wav

    def _chunks(self, clips: Sequence[Waveform]) -> Iterator[tuple[int, Tensor]]:
        """Return (index of the clip, some of its frames), the frames of each clip in order."""
        chunks = self._encode(clips)
        for index, chunk in stream_with_cepstra(chunks, clips, self.spec.cepstra) if self.spec.cepstra else chunks:
            if not chunk.sum().isfinite():
                raise ValueError("the frames are NaN or infinite: the encoder is damaged, or the audio extreme.")
            yield index, chunk

    @torch.no_grad()
    def _encode(self, clips: Iterable[Waveform]) -> Iterator[tuple[int, Tensor]]:
        batch: list[_Segment] = []
        config = self.encoder.config
        measured = None if config.normalized or config.frontend == "conv" else RECEPTIVE_FIELD  # others have none
        budget = BATCH_SECONDS.get(self.device.type, BATCH_SECONDS_ELSEWHERE) * self.sample_rate
        for index, wav in enumerate(clips):
            statistics = self.encoder.statistics(wav[:measured][None])
            frames = SpeechEncoder.num_frames(len(wav))
            for window in plan_windows(frames, context=self.context):
                # the last one includes the samples after its last frame: a log-mel front end still sees them
                stop = len(wav) if window.stop == frames else (window.stop - 1) * HOP + RECEPTIVE_FIELD
                segment = _Segment(index, window, statistics, wav[window.start * HOP : stop])
                longest = max(len(other.wav) for other in (*batch, segment))
                if batch and longest * (len(batch) + 1) > budget:
                    yield from self._encode_batch(batch)
                    batch = []
                batch.append(segment)
        if batch:
            yield from self._encode_batch(batch)

    def _encode_batch(self, batch: "list[_Segment]") -> Iterator[tuple[int, Tensor]]:
        wav = pad_sequence([segment.wav for segment in batch], batch_first=True).to(self.device)
        lengths = torch.tensor([len(segment.wav) for segment in batch], device=self.device)
        statistics = Statistics.stack([segment.statistics for segment in batch], self.device)
        frames = self.encoder(wav, lengths, self.spec.layer, statistics=statistics).float().cpu()
        for segment, row in zip(batch, frames, strict=True):
            start, keep_start, keep_stop, _ = segment.window
            yield segment.clip, row[keep_start - start : keep_stop - start].clone()


class _Segment(NamedTuple):
    clip: int
    window: Window
    statistics: Statistics
    wav: Tensor


def _printable(source: Source | WaveformFile) -> str:
    """Return a path as printable text, and "" for a source without a path."""
    return printable(source) if isinstance(source, str | os.PathLike) else ""


def write_frames(
    path: str | Path, chunks: Iterable[Tensor], count: int, spec: FrameSpec, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a stream of frames and their spec in the safetensors format; return the path.

    Args:
        path: the file, ending in .safetensors; its folder is created if necessary.
        chunks: float32 tensors (frames, dim), in order.
        count: number of frames in all chunks.
        spec: of the frames.
        metadata: further entries, for information only: `source`, `dtype` of the computation.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} does not end in .safetensors, as a frame file does.")
    size = 4 * count * spec.dim
    metadata = {**(metadata or {}), "spec": json.dumps(asdict(spec)), "format": "ssl-vc frames 1"}
    tensor = {"dtype": "F32", "shape": [count, spec.dim], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": metadata, "frames": tensor}).encode()
    header += b" " * (-len(header) % 8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            written = sum(file.write(np.ascontiguousarray(chunk.numpy(), dtype="<f4").data) for chunk in chunks)
            if written != size:
                raise ValueError(f"{path} got {written // 4 // spec.dim} frames where {count} were announced.")
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path} cannot be written: {reason}; check the folder, its permissions and its disk.") from error
    return path


def read_frames(path: str | Path) -> tuple[Tensor, FrameSpec]:
    """Read frames (frames, dim) that `ssl-vc extract` wrote, and their spec; memory-mapped, so keep the file."""
    if not Path(path).is_file():
        raise ValueError(f"{path} does not exist, or is not a file.")
    try:
        with safe_open(path, "pt") as file:
            spec = FrameSpec(**json.loads(file.metadata()["spec"]))
            frames = file.get_tensor("frames")
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a frame file written by `ssl-vc extract` ({error}).") from None
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
