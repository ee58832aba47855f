"""Memory of a process that serves sounds of all lengths for weeks."""

import ctypes
import gc
import os
from contextlib import suppress

KERNEL_CACHES = "LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
SHAPES = 16


def limit_kernel_caches() -> None:
    """Let PyTorch's oneDNN keep kernels for few shapes; to be called before the first model runs.

    It keeps them for 1024, that is lengths of sounds, at a megabyte or more each.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, str(SHAPES))


def return_memory() -> None:
    """Return freed memory to the system, of which glibc keeps hundreds of megabytes where threads take turns."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # another C library, or Windows
        ctypes.CDLL(None).malloc_trim(0)
