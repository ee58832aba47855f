"""Clips as a probe hears them: the frames of many representations at once, kept on disk.

clips --> decode --> every layer, cepstra, log-mel --> a file for each --> one at a time in memory
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pretrain.data.manifest import BROKEN, SAMPLE_RATE, Clip, decode, name_left_out
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.frontend import FIELD, HOP, mel_filters
from pretrain.labels.labels import Phones
from pretrain.labels.mfcc import deltas, frame_mfcc

LONGEST = 30 * SAMPLE_RATE  # samples of a clip that are heard, so that memory stays bounded
BANDS = 40
LARGEST = 65_504.0  # number of 2 bytes: beyond it is infinity

Represent = Callable[[Tensor], Mapping[str, Tensor]]
"""Gives the frames (frames, dim) of a wav (samples,) by every representation."""


def choose_clips(clips: Sequence[Clip], minutes: float, seed: int = 0) -> list[Clip]:
    """Take so many minutes, from all speakers alike as far as they go, in random order."""
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
        seconds += min(clip.seconds, LONGEST / SAMPLE_RATE)
    return chosen


@torch.no_grad()
def baselines(wav: Tensor) -> dict[str, Tensor]:
    """Give what no training made, of a wav (samples,): cepstra and log-mel spectra with their slopes (frames, dim)."""
    mel = log_mel(wav, HOP // 2)  # every 10 ms, where a slope still shows a syllable
    return {"mfcc": frame_mfcc(wav[None])[0], "log-mel": torch.cat([mel, deltas(mel[None])[0]], 1)[::2]}


def log_mel(wav: Tensor, hop: int = HOP) -> Tensor:
    """Give log-mel energies in dB (frames, bands) of a wav (samples,); each frame sees what an encoder's frame sees."""
    window = torch.hann_window(FIELD, device=wav.device)
    spectrum = torch.stft(wav, FIELD, hop, window=window, center=False, return_complex=True)
    return 10 * (mel_filters(BANDS, FIELD, wav.device) @ spectrum.abs().square()).clamp(min=1e-6).log10().T


def layers_of(encoder: SpeechEncoder, layers: Sequence[int]) -> Represent:
    """Give what makes some layers of an encoder, by the names that `layer_name` gives."""
    depth = encoder.config.depth
    wrong = [layer for layer in layers if not 0 <= layer <= depth]
    if wrong:
        raise ValueError(f"there is no layer {wrong[0]}; this encoder has layers 0 to {depth}.")

    @torch.no_grad()
    def represent(wav: Tensor) -> dict[str, Tensor]:
        made = encoder.layers(wav[None].to(next(encoder.parameters()).device), upto=max(layers))
        return {layer_name(layer): made[layer][0] for layer in layers}

    return represent


def layer_name(layer: int) -> str:
    """Name a layer as a representation."""
    return f"layer {layer}"


class Heard(NamedTuple):
    """Clips and their frames, which are on disk: `frames` reads those of one representation.

    Attributes:
        clips: those that could be heard.
        counts: how many frames each has.
        phones: what is spoken in them (frames,).
        folder: where they are.
        dims: numbers in a frame, by representation.
    """

    clips: list[Clip]
    counts: list[int]
    phones: Tensor
    folder: Path
    dims: dict[str, int]

    def frames(self, name: str) -> Tensor:
        """Read the frames (frames, dim) of all clips in their order."""
        numbers = np.fromfile(_file(self.folder, name), np.float16)
        return torch.from_numpy(numbers).view(-1, self.dims[name]).float()

    @property
    def speakers(self) -> Tensor:
        """The speaker of each clip (clips,), numbered in the order of their names."""
        names = sorted({clip.speaker for clip in self.clips})
        return torch.tensor([names.index(clip.speaker) for clip in self.clips])


def hear(clips: Iterable[Clip], phones: Phones, represent: Sequence[Represent], folder: Path) -> Heard:
    """Write the frames of all clips, by all representations, to a folder; what cannot be heard is left out and named.

    Args:
        clips: each with an alignment.
        phones: the alignments.
        represent: what makes frames.
        folder: for the frames, 2 bytes a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    heard: list[Clip] = []
    labels: list[Tensor] = []
    left_out: list[str] = []
    dims: dict[str, int] = {}
    for clip in clips:
        try:
            wav = torch.from_numpy(decode(clip.path)[:LONGEST])
            if len(wav) < FIELD:
                raise ValueError("too short")
        except BROKEN as error:  # one bad file never stops the rest
            left_out.append(f"{clip.key} ({str(error).splitlines()[0]})")
            continue
        made = {name: frames for each in represent for name, frames in each(wav).items()}
        symbols = torch.from_numpy(np.asarray(phones[clip.key], np.int64))
        count = min(len(symbols), *map(len, made.values()))
        for name, frames in made.items():
            dims[name] = frames.shape[1]
            with _file(folder, name).open("ab") as file:
                file.write(frames[:count].clamp(-LARGEST, LARGEST).half().numpy(force=True).tobytes())
        heard.append(clip)
        labels.append(symbols[:count])
    name_left_out(left_out)
    if not heard:
        raise ValueError("no clip could be heard; give clips that have text, so that their phones are known.")
    return Heard(heard, [len(each) for each in labels], torch.cat(labels), folder, dims)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '-')}.f16"
