"""A speaker verifier in ONNX, as published by WeSpeaker and 3D-Speaker: Kaldi filter banks in, an embedding out.

Wang, Zheng, Chen, Cheng and Chen, 2023, "CAM++: A Fast and Efficient Network for Speaker Verification Using
Context-Aware Masking" (arXiv 2303.00332), is one of them.
"""

import os
from collections.abc import Mapping
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.evaluate.audible import refuse_silence
from ssl_vc.hub.onnx_session import open_session

BANDS = 80


class OnnxVerifier:
    """Embeds speakers by an ONNX file: (1, frames, 80) mean-normalised filter banks -> (1, dim).

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import_module("onnxruntime")
            self._fbank = import_module("kaldi_native_fbank")
        except ImportError as error:
            raise ValueError(f"{path} needs {error.name}, which is missing; pip install 'ssl-vc[eval]'.") from None
        try:
            weights = Path(path).read_bytes()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from None
        damaged = f"{path} is no ONNX model, or is damaged; fetch it again."
        self._session = open_session(weights, torch.get_num_threads(), damaged)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or not _accepts_filter_banks(inputs[0].shape) or len(outputs[0].shape) != 2:
            raise ValueError(
                f"{path} is no speaker verifier: it maps {inputs[0].shape} to {outputs[0].shape}, not (1, frames, "
                f"{BANDS}) filter banks to an embedding."
            )
        digest = sha256(weights).hexdigest()[:12]
        self.versions: Mapping[str, str] = {Path(path).name: digest}
        self.description = (
            f"{Path(path).stem} ({digest}), {BANDS} mean-normalised filter banks, clips normalised to one peak"
        )

    def __call__(self, wav: Tensor) -> Tensor:
        """Returns the unit embedding (dim,) of a wav (samples,) at 16 kHz."""
        refuse_silence(wav)
        banks = self.filter_banks(wav / wav.abs().max())  # else the floor of the logarithm depends on the level
        inputs = {self._session.get_inputs()[0].name: (banks - banks.mean(0))[None]}
        embedding = torch.from_numpy(self._session.run(None, inputs)[0][0]).float()
        return torch.nn.functional.normalize(embedding, dim=0)

    def filter_banks(self, wav: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Returns Kaldi's log filter banks (frames, 80) of a wav (samples,), without dither."""
        options = self._fbank.FbankOptions()
        options.frame_opts.samp_freq, options.frame_opts.dither = SAMPLE_RATE, 0
        options.mel_opts.num_bins = BANDS
        online = self._fbank.OnlineFbank(options)
        online.accept_waveform(SAMPLE_RATE, wav.float().numpy(force=True).tolist())
        online.input_finished()
        return np.stack([online.get_frame(index) for index in range(online.num_frames_ready)])


def _accepts_filter_banks(shape: list[int | str | None]) -> bool:
    """Returns whether an input shape fits one clip of any number of frames; a dynamic dimension is no integer."""
    dynamic = [not isinstance(size, int) for size in shape]
    return len(shape) == 3 and (dynamic[0] or shape[0] == 1) and dynamic[1] and shape[2] == BANDS
