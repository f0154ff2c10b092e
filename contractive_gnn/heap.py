"""Freed memory that the process keeps while it does the same again: the next step of a training takes it as it is.

glibc maps every large array anew and unmaps it when it is freed. At 300,000 nodes a third of a step is then the
system's, which hands out and clears fresh pages.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # as in malloc.h
_LARGE: Final = 32 << 20
"""Bytes: glibc itself keeps what is smaller, once something of the size was freed."""

_lock = threading.Lock()
_inside = 0


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Inside the block memory that is freed stays with the process; at its end it goes back to the system.

    The peak is that of the same code outside and gaps: an array fits where one of its size was only if there is free
    room beside, since glibc looks for more than it needs to align it. So a large copy that is dropped before the work
    begins is better made outside. Blocks may be nested, also in several threads: the last one that ends gives the
    memory back. With another allocator than glibc's nothing is changed.

    Example:
        >>> import torch
        >>> with kept_memory():
        ...     total = sum(float(torch.ones(1000).sum()) for _ in range(3))
        >>> total
        3000.0
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    global _inside
    if (allocator := _glibc()) is None:
        return
    with _lock:
        before, _inside = _inside, _inside + change
        if not before:
            allocator.malloc_trim(0)  # or what was freed before would lie in gaps until the end
            allocator.mallopt(_MMAP_MAX, 0)
            allocator.mallopt(_TRIM_THRESHOLD, -1)  # never
        elif not _inside:
            allocator.mallopt(_MMAP_MAX, 65536)
            # where glibc's own thresholds end: once one of them was set, it moves neither
            allocator.mallopt(_MMAP_THRESHOLD, _LARGE)
            allocator.mallopt(_TRIM_THRESHOLD, 2 * _LARGE)
            allocator.malloc_trim(0)


@cache
def _glibc() -> Any:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
