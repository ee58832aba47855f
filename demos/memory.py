"""Memory of a process that serves sounds for weeks."""

import ctypes
import gc
from contextlib import suppress


def return_memory() -> None:
    """Return freed memory to the system, of which glibc keeps hundreds of megabytes where threads take turns."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # another C library, or Windows
        ctypes.CDLL(None).malloc_trim(0)
