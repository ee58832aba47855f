"""Time and memory of a block of code."""

import ctypes
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROCESS = Path("/proc/self")


@dataclass
class Cost:
    """Cost of a block, once it has ended. Memory is None outside Linux.

    Attributes:
        seconds: wall-clock time.
        peak_bytes: peak memory of the whole process, without GPUs.
        added_bytes: the peak less the memory at the start.
    """

    seconds: float = 0.0
    peak_bytes: int | None = None
    added_bytes: int | None = None


@contextmanager
def measure_cost() -> Iterator[Cost]:
    """Measure a block of code; the yielded `Cost` is filled in when it ends."""
    cost = Cost()
    measurable = _reset_peak()
    start_bytes = _status_bytes("VmRSS") if measurable else 0
    start = time.perf_counter()
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - start
        if measurable:
            cost.peak_bytes = _status_bytes("VmHWM")
            cost.added_bytes = max(cost.peak_bytes - start_bytes, 0)


def _reset_peak() -> bool:
    """Reset the peak; returns False where that is impossible."""
    try:
        if "VmHWM" not in (PROCESS / "status").read_text():
            return False
        # free memory kept by the allocator would hide what the block allocates
        trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)
        trim(0)
        (PROCESS / "clear_refs").write_text("5")  # proc(5): resets the peak resident set
    except OSError:
        return False
    return True


def _status_bytes(key: str) -> int:
    found = re.search(rf"^{key}:\s*(\d+) kB", (PROCESS / "status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
