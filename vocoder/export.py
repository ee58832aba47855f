"""Export to OpenVINO (extra `export`), which runs HiFi-GAN's many convolutions faster than torch.

An exported folder holds `vocoder.xml`, `vocoder.bin` and the original `config.json`; `vocoder.kinds.load` opens it like
any other.
"""

import json
import warnings
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vocoder.hifigan import HiFiGAN
from vocoder.network import NeuralVocoder, VocoderConfig
from vocoder.unit_hifigan import UnitHiFiGAN

PRECISIONS = {"auto": None, "float32": "f32", "bfloat16": "bf16"}


class OpenVINOVocoder(NeuralVocoder):
    """A vocoder run by OpenVINO, with the same input and output as the original.

    Args:
        folder: as written by `export`.
        config: of the original vocoder.
        context: of the original vocoder.
        precision: `float32`, `bfloat16`, or `auto`: bfloat16 where the CPU supports it.
    """

    def __init__(self, folder: Path, config: VocoderConfig, context: int, precision: str = "auto") -> None:
        super().__init__(config)
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}.")
        self.context = context
        hint = PRECISIONS[precision]
        settings = {"PERFORMANCE_HINT": "LATENCY", **({"INFERENCE_PRECISION_HINT": hint} if hint else {})}
        self._compiled = _openvino().Core().compile_model(folder / "vocoder.xml", "CPU", settings)

    def generate(self, frames: Tensor) -> Tensor:
        """Map unpadded rows (batch, frames, dim) to (batch, frames * hop_length)."""
        (wav,) = self._compiled(frames.float().cpu().numpy()).values()
        return torch.from_numpy(wav)


def export(vocoder: NeuralVocoder, folder: str | Path) -> Path:
    """Write a HiFi-GAN or BigVGAN for OpenVINO and return its folder; other vocoders are not supported."""
    if not isinstance(vocoder, HiFiGAN) or isinstance(vocoder, UnitHiFiGAN):
        raise ValueError(f"a {vocoder.config.kind} cannot be exported; hifigan and bigvgan can.")
    openvino, folder = _openvino(), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenVINO traces, which torch deprecates; constant sizes are intended
        model = openvino.convert_model(_Generator(vocoder.eval()), example_input=torch.zeros(1, 50, vocoder.dim))
    openvino.save_model(model, folder / "vocoder.xml", compress_to_fp16=False)
    settings = {**asdict(vocoder.config), "context": vocoder.context}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


class _Generator(nn.Module):
    """Generation without input checks, for tracing."""

    def __init__(self, vocoder: NeuralVocoder) -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(self, frames: Tensor) -> Tensor:
        return self.vocoder.generate(frames)


def _openvino() -> Any:
    try:
        return import_module("openvino")
    except ModuleNotFoundError:
        raise ValueError("OpenVINO is not installed; pip install 'ssl-vc[export]'.") from None
