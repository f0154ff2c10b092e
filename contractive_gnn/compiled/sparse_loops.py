"""The compiled products with a sparse matrix and with its transpose, for the CPU.

Imports numba: nothing imports it before it is needed.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy")
def list_present(values, start, stop, present):  # type: ignore[no-untyped-def]
    """Write down which of the values start … stop − 1 are not 0, and return how many.

    After dropout most are 0. They are listed before they are used, without a jump that no one can foresee.
    """
    number = 0
    for k in range(start, stop):
        present[number] = k
        number += values[k] != 0
    return number


@numba.njit(cache=True, nogil=True, error_model="numpy")
def product(values, pointer, column, h, start, stop, out):  # type: ignore[no-untyped-def]
    """Rows start … stop − 1 of ``S h``; no other row of out is written: threads may share the work."""
    present = np.empty(column.size, np.int64)
    for i in range(start, stop):
        out_i = out[i]
        for c in range(h.shape[1]):
            out_i[c] = 0
        for k in present[: list_present(values, pointer[i], pointer[i + 1], present)]:
            value, h_j = values[k], h[column[k]]
            for c in range(h.shape[1]):
                out_i[c] += value * h_j[c]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def transposed_product(values, pointer, column, g, start, stop, out):  # type: ignore[no-untyped-def]
    """Add columns start … stop − 1 of ``Sᵀ g`` to those of out; no other is written: threads may share the work."""
    present = np.empty(column.size, np.int64)
    for i in range(pointer.size - 1):
        g_i = g[i, start:stop]
        for k in present[: list_present(values, pointer[i], pointer[i + 1], present)]:
            value, out_j = values[k], out[column[k], start:stop]
            for c in range(stop - start):
                out_j[c] += value * g_i[c]
