"""Devices: selection, and what their hardware accelerates."""

import re

import torch


def choose_device(name: str) -> torch.device:
    """Resolve `auto` to CUDA if available, else the CPU; raises ValueError for unavailable devices."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", name):
        raise ValueError(f"the device {name!r} is not known; possible are auto, cpu, cuda, cuda:1 ... and mps.")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:  # each backend reports a missing device in its own way
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise ValueError(f"the device {name!r} cannot be used here: {reason}.") from None
    return device


def fast_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware supports bfloat16 natively; emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return any(check() for check in checks if check is not None)
    return False


def fast_int8(device: torch.device) -> bool:
    """Return whether 8-bit integers are the hardware's fastest matrix product."""
    if device.type != "cpu" or fast_bfloat16(device):
        return False
    check = getattr(torch.cpu, "_is_vnni_supported", None)
    return check is not None and bool(check())
