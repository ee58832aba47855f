"""DistillMOS: the mean opinion score of listeners, predicted from the audio alone.

Stahl and Gamper, 2025, "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality
Assessment" (arXiv 2502.05356); the package includes its weights. Only its command line uses torchaudio, so it is
installed without its dependencies and imported with a placeholder for torchaudio.
"""

import contextlib
import io
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ssl_vc.audio import SILENCE

PACKAGES = ("distillmos", "xls_r_sqa")


def has_distill_mos() -> bool:
    """Returns whether its packages are installed."""
    return all(find_spec(name) is not None for name in PACKAGES)


class DistillMos:
    """Predicts mean opinion scores, 1 (bad) to 5 (excellent)."""

    def __init__(self) -> None:
        if not has_distill_mos():
            raise ValueError("DistillMOS is missing; pip install --no-deps distillmos xls-r-sqa.")
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the path of its weights
            self._model = _package().ConvTransformerSQAModel().eval()
        self.description = f"DistillMOS {version('distillmos')}"

    @torch.inference_mode()
    def __call__(self, wav: Tensor) -> float | None:
        """Returns the score of a wav (samples,) at 16 kHz; None for silence."""
        if not len(wav) or wav.abs().max() < SILENCE:
            return None
        return float(self._model(wav.float()[None]))


def _package() -> Any:
    placeholder = "torchaudio" not in sys.modules
    if placeholder:
        sys.modules["torchaudio"] = ModuleType("torchaudio")
    try:
        return import_module("distillmos")
    finally:
        if placeholder:
            del sys.modules["torchaudio"]
