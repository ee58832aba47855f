"""Vocoders for OpenVINO's runtime (extra `export`): HiFi-GAN's many convolutions run faster there than in torch.

A folder with `vocoder.xml`, `vocoder.bin` and the `config.json` of the vocoder it was made from; `vocoder.kinds.load`
opens it like any other.
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


class Exported(NeuralVocoder):
    """A vocoder that OpenVINO computes: the same frames in, the same sound out.

    Args:
        folder: what `export` wrote.
        config: of the vocoder it was made from.
        context: as that vocoder's.
        precision: `float32`, `bfloat16`, or `auto`: bfloat16 where the CPU computes with it.
    """

    def __init__(self, folder: Path, config: VocoderConfig, context: int, precision: str = "auto") -> None:
        super().__init__(config)
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}; possible are {', '.join(PRECISIONS)}.")
        self.context = context
        hint = PRECISIONS[precision]
        settings = {"PERFORMANCE_HINT": "LATENCY", **({"INFERENCE_PRECISION_HINT": hint} if hint else {})}
        self._compiled = _openvino().Core().compile_model(folder / "vocoder.xml", "CPU", settings)

    def generate(self, frames: Tensor) -> Tensor:
        """Map whole rows (batch, frames, dim) to (batch, frames * hop)."""
        (wav,) = self._compiled(frames.float().cpu().numpy()).values()
        return torch.from_numpy(wav)


def export(vocoder: NeuralVocoder, folder: str | Path) -> Path:
    """Write a HiFi-GAN or BigVGAN for OpenVINO; others gain nothing, or do not translate."""
    if not isinstance(vocoder, HiFiGAN) or isinstance(vocoder, UnitHiFiGAN):
        raise ValueError(f"a {vocoder.config.kind} is not exported; hifigan and bigvgan are.")
    openvino, folder = _openvino(), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenVINO's reader traces, which torch calls old; sizes in the trace are meant
        model = openvino.convert_model(_WholeRows(vocoder.eval()), example_input=torch.zeros(1, 50, vocoder.dim))
    openvino.save_model(model, folder / "vocoder.xml", compress_to_fp16=False)
    facts = {**asdict(vocoder.config), "context": vocoder.context}
    (folder / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


class _WholeRows(nn.Module):
    """What is translated: generation without the checks in front of it."""

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
