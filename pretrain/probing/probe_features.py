"""Probe features: the frames of clips in several representations, extracted once and stored on disk.

clips --> decode --> every layer, cepstra, log-mel --> a file for each --> one at a time in memory
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretrain.data.manifest import READ_ERRORS, Clip, decode, log_skipped
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.framing import HOP, RECEPTIVE_FIELD, SAMPLE_RATE
from pretrain.encoder.frontend import mel_filters
from pretrain.labels.mfcc import deltas, frame_mfcc

MAX_SAMPLES = 30 * SAMPLE_RATE  # of a clip, to bound memory
BANDS = 40
MAX_FLOAT16 = 65_504.0

Representation = Callable[[Tensor], Mapping[str, Tensor]]
"""Maps a waveform (samples,) to frames (frames, dim) by the names of representations."""


def sample_clips(clips: Sequence[Clip], minutes: float, seed: int = 0) -> list[Clip]:
    """Draw clips of a total duration, balanced over speakers as far as possible, in random order."""
    order = np.random.default_rng(seed).permutation(len(clips))
    turns: dict[str, int] = {}
    rounds = []
    for index in order:
        speaker = clips[index].speaker
        turns[speaker] = turns.get(speaker, 0) + 1
        rounds.append((turns[speaker], clips[index]))
    chosen, seconds = [], 0.0
    for _, clip in sorted(rounds, key=lambda turn: turn[0]):
        if seconds >= 60 * minutes:
            break
        chosen.append(clip)
        seconds += min(clip.seconds, MAX_SAMPLES / SAMPLE_RATE)
    return chosen


@torch.no_grad()
def baseline_representations(wav: Tensor) -> dict[str, Tensor]:
    """Return untrained features of a waveform (samples,): MFCC, and log-mel spectra with deltas (frames, dim)."""
    mel = log_mel(wav, HOP // 2)  # every 10 ms: deltas over 20 ms steps would be too coarse
    return {"mfcc": frame_mfcc(wav[None])[0], "log-mel": torch.cat([mel, deltas(mel[None])[0]], 1)[::2]}


def log_mel(wav: Tensor, hop: int = HOP) -> Tensor:
    """Return log-mel energies in dB (frames, bands) of a waveform (samples,), with an encoder's frames."""
    window = torch.hann_window(RECEPTIVE_FIELD, device=wav.device)
    spectrum = torch.stft(wav, RECEPTIVE_FIELD, hop, window=window, center=False, return_complex=True)
    return 10 * (mel_filters(BANDS, RECEPTIVE_FIELD, wav.device) @ spectrum.abs().square()).clamp(min=1e-6).log10().T


def layer_representations(encoder: SpeechEncoder, layers: Sequence[int]) -> Representation:
    """Return a function that extracts some layers of an encoder, by their `layer_name`."""
    depth = encoder.config.depth
    invalid = [layer for layer in layers if not 0 <= layer <= depth]
    if invalid:
        raise ValueError(f"there is no layer {invalid[0]}; this encoder has layers 0 to {depth}.")

    @torch.no_grad()
    def represent(wav: Tensor) -> dict[str, Tensor]:
        layers_ = encoder.layers(wav[None].to(next(encoder.parameters()).device), upto=max(layers))
        return {layer_name(layer): layers_[layer][0] for layer in layers}

    return represent


def layer_name(layer: int) -> str:
    """Return the name of a layer as a representation."""
    return f"layer {layer}"


class FrameLabels(Protocol):
    """Labels of the frames of clips."""

    def __getitem__(self, key: str, /) -> npt.NDArray[Any]:
        """Return a clip's labels (frames,)."""


class ProbeFeatures(NamedTuple):
    """Clips with phones, and with frames on disk: `frames` reads those of one representation.

    Attributes:
        clips: that could be read.
        counts: frames of each clip.
        phones: phone ids of all clips, concatenated (frames,).
        folder: of the frames.
        dims: dimension of each representation.
    """

    clips: list[Clip]
    counts: list[int]
    phones: Tensor
    folder: Path
    dims: dict[str, int]

    def frames(self, name: str) -> Tensor:
        """Read the frames of all clips, concatenated (frames, dim)."""
        values = np.fromfile(_file(self.folder, name), np.float16)
        return torch.from_numpy(values).view(-1, self.dims[name]).float()

    @property
    def speakers(self) -> Tensor:
        """Speaker id of each clip (clips,), in alphabetical order of the names."""
        names = sorted({clip.speaker for clip in self.clips})
        return torch.tensor([names.index(clip.speaker) for clip in self.clips])


def extract_probe_features(
    clips: Iterable[Clip], phones: FrameLabels, representations: Sequence[Representation], folder: Path
) -> ProbeFeatures:
    """Write the frames of all clips in all representations to a folder; unreadable clips are skipped and logged.

    Args:
        clips: each with an alignment.
        phones: the alignments.
        representations: extract frames.
        folder: for the frames, as float16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept: list[Clip] = []
    labels: list[Tensor] = []
    left_out: list[str] = []
    dims: dict[str, int] = {}
    for clip in clips:
        try:
            wav = torch.from_numpy(decode(clip.path)[:MAX_SAMPLES])
            if len(wav) < RECEPTIVE_FIELD:
                raise ValueError("too short")
        except READ_ERRORS as error:  # a broken file does not stop the others
            left_out.append(f"{clip.key} ({str(error).splitlines()[0]})")
            continue
        extracted = {name: frames for represent in representations for name, frames in represent(wav).items()}
        symbols = torch.from_numpy(np.asarray(phones[clip.key], np.int64))
        count = min(len(symbols), *map(len, extracted.values()))
        for name, frames in extracted.items():
            dims[name] = frames.shape[1]
            with _file(folder, name).open("ab") as file:
                file.write(frames[:count].clamp(-MAX_FLOAT16, MAX_FLOAT16).half().numpy(force=True).tobytes())
        kept.append(clip)
        labels.append(symbols[:count])
    log_skipped(left_out)
    if not kept:
        raise ValueError("no clip could be read; use clips with transcripts, which phone alignments need.")
    return ProbeFeatures(kept, [len(each) for each in labels], torch.cat(labels), folder, dims)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '-')}.f16"
