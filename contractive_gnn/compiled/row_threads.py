"""A loop over the rows of a matrix, in as many threads as torch uses.

Plain threads around a loop that holds no lock: numba's own would not survive a fork, nor two callers at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import torch

LINE: Final = 64
"""Bytes of a cache line."""
SHARE: Final = 1 << 18
"""A thread is worth its start for this many products of edge and channel."""


def by_rows(loop: Any, arrays: tuple[Any, ...], pointer: Any, *results: Any, channels: int | None = None) -> None:
    """Run ``loop`` on all rows, in as many threads as torch uses, each on rows of about as many edges.

    Args:
        loop: ``(*arrays, start, stop, *results)``, which writes the rows ``start … stop − 1`` of the results.
        arrays: what it reads.
        pointer: where each row's edges begin, and their number.
        results: what it writes, the first one ``[n, channels]`` where ``channels`` are not given.
        channels: so many numbers are read for an edge.
    """
    channels = results[0].shape[1] if channels is None else channels
    rows, edges = pointer.size - 1, int(pointer[-1])
    threads = min(torch.get_num_threads(), edges * channels // SHARE)
    cuts = [0, rows]
    if threads > 1:
        shares = np.linspace(0, edges + rows, threads + 1)[1:-1]
        cuts[1:1] = np.searchsorted(pointer + np.arange(rows + 1), shares).tolist()
    in_threads(loop, arrays, cuts, *results)


def by_items(loop: Any, arrays: tuple[Any, ...], number: int, *results: Any, channels: int) -> None:
    """Run ``loop`` on all items, pairs of nodes say, in as many threads as torch uses, each on as many of them.

    Args:
        loop: ``(*arrays, start, stop, *results)``, which writes what belongs to the items ``start … stop − 1``.
        arrays: what it reads.
        number: of items.
        results: what it writes.
        channels: so many products belong to an item.
    """
    threads = max(1, min(torch.get_num_threads(), number * channels // SHARE))
    in_threads(loop, arrays, [number * part // threads for part in range(threads + 1)], *results)


def in_threads(loop: Any, arrays: tuple[Any, ...], cuts: Sequence[int], *results: Any) -> None:
    """Run ``loop`` from each of the cuts to the next, in a thread of its own where there is more than one such part."""
    if len(cuts) == 2:
        loop(*arrays, *cuts, *results)
        return
    with ThreadPoolExecutor(len(cuts) - 1) as pool:
        parts = [pool.submit(loop, *arrays, *ends, *results) for ends in itertools.pairwise(cuts)]
        for part in parts:
            part.result()


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array that begins with a line of the cache: rows that begin within one are spread over one more.

    NumPy asks for large pages, which torch does not: a state of 50 MB then costs 25 page faults and not 12,500.
    """
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)
