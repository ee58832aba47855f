"""A long waveform in a file is sliced like a tensor."""

import gc
import os

import pytest
import torch

from ssl_vc import read, write
from ssl_vc.features import waveform
from ssl_vc.features.waveform import WaveformFile, pad_end, read_waveform
from vocoder.pitch import track_pitch


@pytest.fixture
def long(monkeypatch):
    """Everything is too long to be held in memory."""
    monkeypatch.setattr(waveform, "LONG", 0)


def test_a_slice_is_that_of_the_tensor(long, tmp_path, speech):
    path = write(tmp_path / "a.wav", speech(2), 16_000)
    wav, file = read(path), read_waveform(path)
    assert isinstance(file, WaveformFile) and len(file) == len(wav)
    wav, file = pad_end(wav, 500), pad_end(pad_end(file, 200), 300)
    assert len(file) == len(wav)
    for start, stop in (
        (None, None),
        (0, 10),
        (100, 32_100),
        (31_990, 33_000),
        (32_200, 32_300),
        (40_000, 50_000),
        (-7, None),
    ):
        assert torch.equal(file[start:stop], wav[start:stop])


def test_a_short_clip_is_a_tensor(speech):
    wav = speech(1)
    assert torch.equal(read_waveform(wav), wav)


def test_the_file_goes_with_its_last_reader(long, speech):
    file = read_waveform(speech(1))
    descriptor, file = file._file.fileno(), pad_end(file, 10)
    gc.collect()
    assert len(file[:]) == 16_010
    del file
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_full_disk_is_said(long, speech, monkeypatch):
    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(waveform, "TemporaryFile", Full)
    with pytest.raises(OSError, match="cannot be buffered: No space left on device; free space in the folder for temp"):
        read_waveform(speech(1))


@pytest.mark.parametrize("samples", [100, 320, 16_000, 200_000])
def test_the_pitch_of_a_file_is_that_of_the_tensor(long, speech, samples):
    wav = speech(13)[:samples] + 1e-3
    assert torch.equal(track_pitch(read_waveform(wav)), track_pitch(wav))
