"""n×n and n×d matrices that are never formed: sums of products of thin factors, evaluated block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
Sparse: TypeAlias = Any  # scipy.sparse.csr_array, which has no type stubs
Matrix: TypeAlias = Any  # Array | Sparse

BLOCK: Final = 256  # rows of an n×n or n×(Th) matrix that exist at a time


@dataclass(frozen=True)
class Term:
    """One product L Rᵀ; ``rows`` (ascending) are the rows of the whole that L covers, None for all of them.

    ``left`` is ``[len(rows), k]`` and ``right`` ``[columns, k]``, each dense or CSR, not both CSR.
    """

    left: Matrix
    right: Matrix
    rows: Indices | None = None

    def slice_rows(self, start: int, stop: int) -> tuple[Matrix, Indices]:
        """The part of L in rows start…stop−1, and which rows these are."""
        if self.rows is None:
            return self.left[start:stop], np.arange(start, min(stop, self.left.shape[0]))
        low, high = np.searchsorted(self.rows, [start, stop])
        return self.left[low:high], self.rows[low:high]


@dataclass(frozen=True)
class FactoredMatrix:
    """Σ_k L_k R_kᵀ of the given shape, evaluated in blocks only."""

    terms: tuple[Term, ...]
    shape: tuple[int, int]

    def block(self, start: int, stop: int) -> Array:
        """Rows start…stop−1, dense."""
        out = np.zeros((stop - start, self.shape[1]))
        for term in self.terms:
            left, rows = term.slice_rows(start, stop)
            out[rows - start] += times_transpose(left, term.right)
        return out

    def sum_with_transpose(self, start: int, stop: int) -> Array:
        """Rows start…stop−1 and columns start…n−1 of M + Mᵀ, dense; M is this matrix, square."""
        n = self.shape[0]
        thin = [term for term in self.terms if term.rows is None]
        left = np.hstack([term.left[start:stop] for term in thin] + [term.right[start:stop] for term in thin])
        right = np.hstack([term.right[start:] for term in thin] + [term.left[start:] for term in thin])
        out: Array = left @ right.T
        for term in self.terms:
            if term.rows is None:
                continue
            left, rows = term.slice_rows(start, stop)
            if rows.size:
                out[rows - start] += times_transpose(left, term.right)[:, start:]
            left, rows = term.slice_rows(start, n)
            if rows.size:
                out[:, rows - start] += times_transpose(left, term.right[start:stop]).T
        return out

    def marginals(self, S: Sparse) -> Array:
        """Row sums plus column sums of M∘S ``[n]``, from the non-zeros of the symmetric S only."""
        total = np.zeros(self.shape[0])
        for term in self.terms:
            rows = slice(None) if term.rows is None else term.rows
            total[rows] += _row_dots(term.left, S[rows] @ term.right)
            total += _row_dots(S[:, rows] @ term.left, term.right)
        return total

    def plus(self, term: Term) -> FactoredMatrix:
        """The sum with one more term."""
        return FactoredMatrix((*self.terms, term), self.shape)

    def scaled(self, s: Array) -> FactoredMatrix:
        """diag(s) M diag(s)."""
        terms = []
        for term in self.terms:
            rows = slice(None) if term.rows is None else term.rows
            terms.append(Term(_scale_rows(term.left, s[rows]), _scale_rows(term.right, s), term.rows))
        return FactoredMatrix(tuple(terms), self.shape)


def times_transpose(left: Matrix, right: Matrix) -> Array:
    """L Rᵀ, dense, where L and R are dense or CSR, not both CSR."""
    if sp.issparse(right):
        return np.asarray((right @ left.T).T)
    return np.asarray(left @ right.T)


def _row_dots(left: Matrix, right: Matrix) -> Array:
    """Σ_k L_ik R_ik for each row i."""
    if sp.issparse(left):
        return np.asarray(left.multiply(right).sum(axis=1)).ravel()
    if sp.issparse(right):
        return np.asarray(right.multiply(left).sum(axis=1)).ravel()
    dots: Array = np.einsum("ik,ik->i", left, right)
    return dots


def _scale_rows(matrix: Matrix, s: Array) -> Matrix:
    if sp.issparse(matrix):
        return (sp.dia_array((s[None], [0]), shape=(s.size, s.size)) @ matrix).tocsr()
    return s[:, None] * matrix
