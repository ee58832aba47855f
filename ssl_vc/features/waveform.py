"""Waveforms by the slice: a tensor, or a temporary file for a long clip."""

import weakref
from collections.abc import Iterable
from copy import copy
from itertools import chain
from tempfile import TemporaryFile
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from ssl_vc.audio import SAMPLE_RATE, Source, read_blocks

LONG = 60  # seconds; a longer clip is not held in memory


class WaveformFile:
    """A waveform in a temporary file, of which slices (samples,) are read."""

    def __init__(self, blocks: Iterable[npt.NDArray[Any]]) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - open as long as this object exists
        weakref.finalize(self, self._file.close)
        self._samples, self._silence = 0, 0
        self._owner: WaveformFile | None = None  # of the file, if it is another object
        try:
            for block in blocks:
                self._samples += len(block)
                self._file.write(np.ascontiguousarray(block, np.float32).data)
        except OSError as error:
            raise OSError(
                f"the source cannot be buffered: {error.strerror or error}; free space in the folder for temporary "
                "files, or set TMPDIR to another one."
            ) from error

    def __len__(self) -> int:
        return self._samples + self._silence

    def __getitem__(self, part: slice) -> Tensor:
        """Return a slice without gaps."""
        start, stop, _ = part.indices(len(self))
        wav = torch.zeros(max(stop - start, 0))
        self._file.seek(4 * start)
        self._file.readinto(wav[: max(self._samples - start, 0)].numpy().data)
        return wav

    def padded(self, silence: int) -> "WaveformFile":
        """Return this waveform with so many samples of silence at its end."""
        other = copy(self)
        other._silence, other._owner = self._silence + silence, self
        return other


Waveform: TypeAlias = Tensor | WaveformFile


def read_waveform(source: Source) -> Waveform:
    """Read speech as `ssl_vc.read` does, into a temporary file if it is long."""
    blocks, held, samples = read_blocks(source, speech=True), [], 0
    for block in blocks:
        held.append(block)
        samples += len(block)
        if samples > LONG * SAMPLE_RATE:
            return WaveformFile(chain(held, blocks))
    return torch.from_numpy(np.concatenate(held))


def pad_end(wav: Waveform, silence: int) -> Waveform:
    """Return a waveform with so many samples of silence at its end."""
    return pad(wav, (0, silence)) if isinstance(wav, Tensor) else wav.padded(silence)
