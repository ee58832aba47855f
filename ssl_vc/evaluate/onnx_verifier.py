"""A speaker verifier in ONNX, as WeSpeaker and 3D-Speaker publish theirs: Kaldi filter banks in, an embedding out.

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

BANDS = 80


class OnnxVerifier:
    """Embeds speakers by an ONNX file: (1, frames, 80) filter banks less their mean over time -> (1, dim).

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            runtime = import_module("onnxruntime")
            self._fbank = import_module("kaldi_native_fbank")
        except ImportError as error:
            raise ValueError(f"{path} needs {error.name}, which is missing; pip install 'ssl-vc[eval]'.") from None
        try:
            weights = Path(path).read_bytes()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from None
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what goes wrong is raised
        try:
            self._session = runtime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's errors have no class in common
            raise ValueError(f"{path} is no ONNX model, or is damaged; fetch it again.") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or not _takes_banks(inputs[0].shape) or len(outputs[0].shape) != 2:
            raise ValueError(
                f"{path} is no speaker verifier: it maps {inputs[0].shape} to {outputs[0].shape}, and not (1, frames, "
                f"{BANDS}) filter banks to a vector."
            )
        digest = sha256(weights).hexdigest()[:12]
        self.versions: Mapping[str, str] = {Path(path).name: digest}
        self.description = (
            f"{Path(path).stem} ({digest}), {BANDS} filter banks less their mean, one peak for all sounds"
        )

    def __call__(self, wav: Tensor) -> Tensor:
        """Returns the unit vector (dim,) of a wav's speaker, (samples,) at 16 kHz."""
        refuse_silence(wav)
        banks = self.filter_banks(wav / wav.abs().max())  # or the floor of the logarithm would know the level
        given = {self._session.get_inputs()[0].name: (banks - banks.mean(0))[None]}
        vector = torch.from_numpy(self._session.run(None, given)[0][0]).float()
        return torch.nn.functional.normalize(vector, dim=0)

    def filter_banks(self, wav: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Returns Kaldi's log filter banks (frames, 80) of a wav (samples,), without dither."""
        options = self._fbank.FbankOptions()
        options.frame_opts.samp_freq, options.frame_opts.dither = SAMPLE_RATE, 0
        options.mel_opts.num_bins = BANDS
        online = self._fbank.OnlineFbank(options)
        online.accept_waveform(SAMPLE_RATE, wav.float().numpy(force=True).tolist())
        online.input_finished()
        return np.stack([online.get_frame(index) for index in range(online.num_frames_ready)])


def _takes_banks(shape: list[int | str | None]) -> bool:
    """Returns whether a shape takes one clip of any number of frames; a dimension that is open has no number."""
    is_open = [not isinstance(size, int) for size in shape]
    return len(shape) == 3 and (is_open[0] or shape[0] == 1) and is_open[1] and shape[2] == BANDS
