"""Settings of a process that runs models: threads that share cores with others, and memory that stays level."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

KERNEL_CACHES = "LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
SHAPES = 16


def use_passive_threads() -> None:
    """Let idle OpenMP threads sleep instead of spin; to be called before torch is imported.

    On a busy machine a spinning thread keeps from its core the very one that it waits for, which can take 10 times as
    long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def limit_kernel_caches() -> None:
    """Let PyTorch's oneDNN keep kernels for few shapes; to be called before the first model runs.

    It keeps them for 1024, that is lengths of sounds, at a megabyte or more each.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, str(SHAPES))


def set_threads(threads: int | None) -> None:
    """Set the number of threads that torch computes with; None leaves it at the number of cores."""
    if threads is not None:
        import torch  # which `ssl-vc --help` does not need

        torch.set_num_threads(threads)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads in this context."""
    import torch  # which `ssl-vc --help` does not need

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prepare_inference(threads: int | None = None) -> None:
    """Set up a process that converts sounds of many lengths: see `limit_kernel_caches` and `set_threads`."""
    limit_kernel_caches()
    set_threads(threads)
