"""What a block of code costs: time and memory."""

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
    """What a block cost, once it has ended. None is what the system does not tell: memory, if it is not Linux.

    Attributes:
        seconds: by the clock.
        peak_bytes: the most memory that the whole process held meanwhile; that of a GPU is not in it.
        added_bytes: how much more that is than it held at the start.
    """

    seconds: float = 0.0
    peak_bytes: int | None = None
    added_bytes: int | None = None


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure a block of code: what is given is filled in when it ends."""
    cost = Cost()
    forgotten = _forget_peak()
    held = _held("VmRSS") if forgotten else 0
    start = time.perf_counter()
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - start
        if forgotten:
            cost.peak_bytes = _held("VmHWM")
            cost.added_bytes = max(cost.peak_bytes - held, 0)


def _forget_peak() -> bool:
    """Let the peak begin anew; False where that cannot be."""
    try:
        if "VmHWM" not in (PROCESS / "status").read_text():
            return False
        # what earlier work left with the allocator would hide what the block takes
        trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)
        trim(0)
        (PROCESS / "clear_refs").write_text("5")  # proc(5): resets the peak resident set
    except OSError:
        return False
    return True


def _held(which: str) -> int:
    found = re.search(rf"^{which}:\s*(\d+) kB", (PROCESS / "status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
