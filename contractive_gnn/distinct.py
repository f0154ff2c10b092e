"""The distinct numbers of an array, in order, where ``numpy.unique`` is too slow for those of edges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def distinct(numbers: IntArray) -> IntArray:
    """What ``np.unique`` gives of numbers ≥ 0, by a sort: on int64 it takes up to a hundred times as long.

    Args:
        numbers: int64 ``[k]``, such as the codes ``u n + v`` of edges; each at least 0.

    Example:
        >>> distinct(np.array([3, 0, 3, 2])).tolist()
        [0, 2, 3]
    """
    ordered: IntArray = np.sort(numbers)
    found: IntArray = ordered[np.diff(ordered, prepend=-1) != 0]
    return found
