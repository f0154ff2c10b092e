"""Random numbers by a seed, one caller at a time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import torch

_lock = threading.RLock()


def _renew() -> None:
    """In a forked child, where the thread that held the lock is not there to release it."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw from torch's global generators without disturbing a thread that is inside :func:`seeded`: wait for it."""
    with _lock:
        yield


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block, and put their states back after it.

    The generators belong to the process. So only one thread is inside such a block at a time, the others wait: the
    numbers that a seed gives are the same in one thread and in several. The same thread may enter it again. The layers
    and models of this library are drawn inside :func:`drawing`. Other code that draws from a global generator, in
    another thread and outside of every block, is not held up, and does change the numbers.

    Args:
        seed: of torch on the CPU and on every GPU.
    """
    with drawing(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
