"""The compiled product with a transposed sparse matrix, for the CPU.

Imports numba: nothing imports it before it is needed.
"""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True)
def transposed_product(values, pointer, column, g, start, stop, out):  # type: ignore[no-untyped-def]
    """Add columns start … stop − 1 of ``Sᵀ g`` to those of out; no other is written: threads may share the work."""
    for i in range(pointer.size - 1):
        g_i = g[i, start:stop]
        for k in range(pointer[i], pointer[i + 1]):
            value = values[k]
            if value != 0:  # most are, after dropout
                out_j = out[column[k], start:stop]
                for c in range(stop - start):
                    out_j[c] += value * g_i[c]
