"""int8 weights: small, and within half a quantisation step."""

import torch
from safetensors.torch import load_file, save_file

from ssl_vc.tts.int8 import dequantize, quantize


def test_round_trip(tmp_path):
    generator = torch.Generator().manual_seed(0)
    weights = {
        "matrix": torch.randn(64, 100, generator=generator) * torch.logspace(-3, 1, 64)[:, None],
        "kernel": torch.randn(96, 8, 7, generator=generator),
        "small": torch.randn(8, 8, generator=generator),
        "bias": torch.randn(5000, generator=generator),
        "zero": torch.zeros(70, 70),
    }
    save_file(quantize(weights), tmp_path / "int8.safetensors")
    again = dequantize(load_file(tmp_path / "int8.safetensors"))
    assert again.keys() == weights.keys()
    for name in ("small", "bias"):
        torch.testing.assert_close(again[name], weights[name], rtol=1e-3, atol=1e-6)
    for name in ("matrix", "kernel", "zero"):
        rows, other = weights[name].flatten(1), again[name].flatten(1)
        step = rows.abs().amax(1, keepdim=True) / 127
        assert bool(((rows - other).abs() <= 0.501 * step + 1e-8).all())
    large = sum(weights[name].numel() for name in ("matrix", "kernel", "zero"))
    assert (tmp_path / "int8.safetensors").stat().st_size < 1.2 * large + 2 * 5064 + 2000


def test_quantising_is_idempotent():
    once = dequantize(quantize({"matrix": torch.randn(80, 80, generator=torch.Generator().manual_seed(1))}))
    twice = dequantize(quantize(once))
    torch.testing.assert_close(twice["matrix"], once["matrix"], rtol=1e-6, atol=1e-7)
