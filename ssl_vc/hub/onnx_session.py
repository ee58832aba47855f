"""Sessions of onnxruntime on the CPU."""

from importlib import import_module
from typing import Any


def open_session(weights: bytes, threads: int, damaged: str) -> Any:
    """Return a session of a serialised ONNX model.

    Raises:
        ImportError: onnxruntime is not installed.
        ValueError: the bytes are no ONNX model; `damaged` is its message.
    """
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised anyway
    try:
        return runtime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no class in common
        raise ValueError(damaged) from error
