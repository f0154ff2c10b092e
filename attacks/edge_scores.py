"""Metattack's scoring of all pairs of nodes, compiled: one pass over a few rows at a time, which stay in the cache.

The same as :func:`contractive_gnn.attacks.metattack.best_edge_flip` in NumPy, which goes over each block of rows about
ten times. Imports numba, so nothing imports it before it is needed.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

ROWS: Final = 32
"""Rows that are scored at a time: 32 of a graph with ten thousand nodes are 2.5 MB."""
REORDER: Final = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, fastmath={"nnan", "nsz"})
def _maximum(values):  # type: ignore[no-untyped-def]
    """The largest value, −∞ of none, a few at a time: the caller has seen to it that there is no NaN."""
    best = -np.inf
    for j in range(values.size):
        best = values[j] if values[j] > best else best
    return best


@numba.njit(cache=True, fastmath=REORDER)
def marginals(pointer, column, value, local, rows, S_pointer, S_column, S_value, total):  # type: ignore[no-untyped-def]
    """Add the row sums and column sums of M∘S to ``total`` ``[n]``, for M = P_rows L ``local`` with a CSR matrix L."""
    for r in range(rows.size):
        i = rows[r]
        for e in range(S_pointer[i], S_pointer[i + 1]):
            j = S_column[e]
            entry = 0.0
            for q in range(pointer[r], pointer[r + 1]):
                entry += value[q] * local[column[q], j]
            entry *= S_value[e]
            total[i] += entry
            total[j] += entry


@numba.njit(cache=True, fastmath=REORDER)
def scan(  # type: ignore[no-untyped-def]
    scores, start, pointer, column, value, local, rows, scale, A_pointer, A_column, leaf, flipped, kind, may_add,
    may_remove, largest,
):  # fmt: skip
    """Complete the scores of rows ``start`` … in place, and write the largest of each row to ``largest``.

    Args:
        scores: ``[b, n]``, the thin terms of Γ + Γᵀ scaled by s_i s_j and α_i + α_j; entries with j ≤ i are not read.
        start: the first row.
        pointer: of L, CSR, in the term P_rows L ``local`` of Γ.
        column: likewise.
        value: likewise.
        local: ``[k, n]``.
        rows: its rows, ascending.
        scale: s ``[n]``.
        A_pointer: of the adjacency, CSR.
        A_column: likewise, ascending within a row.
        leaf: whether a node has one edge.
        flipped: int ``[k, 2]``, u < v, in lexicographic order: the pairs that score 0.
        kind: of the degree of each node, for the tables.
        may_add: bool table of the degree test, empty for none.
        may_remove: likewise.
        largest: ``[n]``.
    """
    n, count = scores.shape[1], scores.shape[0]
    at = np.empty((count, local.shape[0]))  # the columns of ``local`` that belong to these rows
    for q in range(local.shape[0]):
        for b in range(count):
            at[b, q] = local[q, start + b]
    own = np.empty(n)
    first_row, first_flip = np.searchsorted(rows, start), np.searchsorted(flipped[:, 0], start)
    tested = may_add.size > 0
    for b in range(count):
        i = start + b
        row, at_i = scores[b], at[b]
        while first_row < rows.size and rows[first_row] < i:
            first_row += 1
        if first_row < rows.size and rows[first_row] == i:
            for j in range(i + 1, n):
                own[j] = 0.0
            for q in range(pointer[first_row], pointer[first_row + 1]):
                x, part = value[q], local[column[q]]
                for j in range(i + 1, n):
                    own[j] += x * part[j]
            for j in range(i + 1, n):
                row[j] += scale[i] * scale[j] * own[j]
        for r in range(first_row, rows.size):
            j = rows[r]
            if j > i:
                entry = 0.0
                for q in range(pointer[r], pointer[r + 1]):
                    entry += value[q] * at_i[column[q]]
                row[j] += scale[i] * scale[j] * entry
        begin, end = A_pointer[i], A_pointer[i + 1]
        if not tested:
            for e in range(begin, end):
                j = A_column[e]
                row[j] = -np.inf if leaf[i] or leaf[j] else -row[j]
        else:
            e = begin
            for j in range(i + 1, n):
                while e < end and A_column[e] < j:
                    e += 1
                if e < end and A_column[e] == j:
                    kept = leaf[i] or leaf[j] or not may_remove[kind[i], kind[j]]
                    row[j] = -np.inf if kept else -row[j]
                elif not may_add[kind[i], kind[j]]:
                    row[j] = -np.inf
        while first_flip < flipped.shape[0] and flipped[first_flip, 0] == i:
            j = flipped[first_flip, 1]
            if row[j] != -np.inf:
                row[j] = 0.0
            first_flip += 1
        largest[i] = _maximum(row[i + 1 :])
