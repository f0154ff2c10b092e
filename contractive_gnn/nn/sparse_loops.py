"""The compiled product with a transposed sparse matrix, for the CPU.

Imports numba: nothing imports it before it is needed.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy")
def transposed_product(values, pointer, column, g, start, stop, out):  # type: ignore[no-untyped-def]
    """Add columns start … stop − 1 of ``Sᵀ g`` to those of out; no other is written: threads may share the work.

    After dropout most values are 0. What is left of a row is listed first, without a jump that no one can foresee.
    """
    present = np.empty(column.size, np.int64)
    for i in range(pointer.size - 1):
        g_i = g[i, start:stop]
        number = 0
        for k in range(pointer[i], pointer[i + 1]):
            present[number] = k
            number += values[k] != 0
        for k in present[:number]:
            value, out_j = values[k], out[column[k], start:stop]
            for c in range(stop - start):
                out_j[c] += value * g_i[c]
