"""n×n and n×d matrices that are never formed: sums of products of factors, evaluated by rows."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
Sparse: TypeAlias = Any  # scipy.sparse.csr_array, which has no type stubs
Matrix: TypeAlias = Any  # Array | Sparse

BLOCK: Final = 256  # rows of an n×n or n×(Th) matrix that exist at a time
PAIRS: Final = 2048  # pairs of rows of an n×d matrix that exist at a time


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

    def select_rows(self, nodes: Indices) -> tuple[Matrix, Indices]:
        """The part of L in some rows, and which of them L covers."""
        if self.rows is None:
            return self.left[nodes], np.arange(nodes.size)
        position, here = find(self.rows, nodes)
        return self.left[position], here


@dataclass(frozen=True)
class TrainingTerm:
    """P G (S X)ᵀ + S P G Xᵀ ``[n, n]``, where P ``[n, m]`` selects the training nodes: dense, were it formed.

    Args:
        S: CSR ``[n, n]``, symmetric.
        X: ``[n, d]``, CSR or dense.
        train: int ``[m]``, ascending.
        G: ``[m, d]``.
        two_hops: S S P, CSR ``[n, m]``.
    """

    S: Sparse
    X: Matrix
    train: Indices
    G: Array
    two_hops: Sparse

    @cached_property
    def to_train(self) -> Sparse:
        """S P, CSR ``[n, m]``."""
        return self.S[:, self.train]

    def rows(self, nodes: Indices) -> Array:
        """These rows, dense ``[k, n]``."""
        position, here = find(self.train, nodes)
        out = np.asarray(self.X @ np.ascontiguousarray((self.to_train[nodes] @ self.G).T))
        out[:, here] += self.S @ (self.X @ np.ascontiguousarray(self.G[position].T))
        rows: Array = out.T
        return rows

    def columns(self, nodes: Indices) -> Array:
        """These columns, dense ``[n, k]``."""
        out = np.asarray(self.to_train @ np.ascontiguousarray(self._along_G(self.X[nodes]).T))
        out[self.train] += self._along_G(self.S[nodes] @ self.X).T
        return out

    def _along_G(self, features: Matrix) -> Array:
        """``features`` Gᵀ ``[k, m]``."""
        m = self.train.size
        if not sp.issparse(features):
            return np.asarray(features @ self.G.T)
        k = features.shape[0]
        everything = sp.csr_array((np.empty(k * m), np.tile(np.arange(m), k), np.arange(0, (k + 1) * m, m)), (k, m))
        return sampled_products(everything, features, self.G).reshape(k, m)

    def entries(self, u: Indices, v: Indices) -> Array:
        """The entries in row ``u[i]`` and column ``v[i]``, for each i."""
        found = _row_dots(self.X[v], self.to_train[u] @ self.G)
        position, here = find(self.train, u)
        found[here] += _row_dots(self.S[v[here]] @ self.X, self.G[position])
        return found

    def marginals(self) -> Array:
        """Row sums plus column sums of this matrix times S, entry by entry ``[n]``.

        All that they take of G Xᵀ is its entries for a training node and a node at most two steps away.
        """
        near = self.two_hops.copy()
        near.data = sampled_products(near, self.X, self.G)
        total = 2 * np.asarray(self.to_train.multiply(self.S @ near).sum(axis=1)).ravel()
        near.data *= self.two_hops.data
        total += near.sum(axis=1)
        total[self.train] += near.sum(axis=0)
        return np.asarray(total)


@dataclass(frozen=True)
class FactoredMatrix:
    """Σ_k L_k R_kᵀ of the given shape, plus a :class:`TrainingTerm` where there is one."""

    terms: tuple[Term, ...]
    shape: tuple[int, int]
    training: TrainingTerm | None = None

    def block(self, start: int, stop: int) -> Array:
        """Rows start…stop−1, dense."""
        nodes = np.arange(start, stop)
        out = np.zeros((nodes.size, self.shape[1])) if self.training is None else self.training.rows(nodes)
        for term in self.terms:
            left, rows = term.slice_rows(start, stop)
            out[rows - start] += times_transpose(left, term.right)
        return out

    def sum_with_transpose(self, nodes: Indices) -> Array:
        """These rows of M + Mᵀ, dense; M is this matrix, square."""
        out = np.zeros((nodes.size, self.shape[0]))
        if self.training is not None:
            out += self.training.rows(nodes)
            out += self.training.columns(nodes).T
        for term in self.terms:
            left, here = term.select_rows(nodes)
            out[here] += times_transpose(left, term.right)
            out[:, slice(None) if term.rows is None else term.rows] += times_transpose(term.right[nodes], term.left)
        return out

    def sum_at(self, u: Indices, v: Indices) -> Array:
        """The entries of M + Mᵀ in row ``u[i]`` and column ``v[i]``, for each i; M is this matrix, square."""
        total = np.empty(u.size)
        for start in range(0, u.size, PAIRS):
            some = slice(start, start + PAIRS)
            total[some] = self._entries(u[some], v[some]) + self._entries(v[some], u[some])
        return total

    def _entries(self, u: Indices, v: Indices) -> Array:
        found = np.zeros(u.size) if self.training is None else self.training.entries(u, v)
        for term in self.terms:
            position, here = (u, slice(None)) if term.rows is None else find(term.rows, u)
            found[here] += _row_dots(term.left[position], term.right[v[here]])
        return found

    def marginals(self, S: Sparse) -> Array:
        """Row sums plus column sums of M∘S ``[n]``, from the non-zeros of the symmetric S only."""
        total = np.zeros(self.shape[0]) if self.training is None else self.training.marginals()
        for term in self.terms:
            rows = slice(None) if term.rows is None else term.rows
            total[rows] += _row_dots(term.left, S[rows] @ term.right)
            total += _row_dots(S[:, rows] @ term.left, term.right)
        return total


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


def find(rows: Indices, nodes: Indices) -> tuple[Indices, Indices]:
    """The positions in ``rows`` (ascending) of those ``nodes`` that it has, and the positions of these nodes."""
    position = np.searchsorted(rows, nodes)
    here = np.flatnonzero(rows[np.minimum(position, rows.size - 1)] == nodes)
    return position[here], here


def sampled_products(pattern: Sparse, X: Matrix, G: Array) -> Array:
    """The entries of X Gᵀ at the non-zeros of the CSR matrix ``pattern``, in their order."""
    if sp.issparse(X) and numba_is_here():
        from contractive_gnn.compiled.attack_loops import sampled  # imports numba

        return np.asarray(sampled(pattern.indptr, pattern.indices, X.indptr, X.indices, X.data, G))
    values = np.empty(pattern.nnz)
    for start in range(0, pattern.shape[0], BLOCK):
        pointer = pattern.indptr[start : start + BLOCK + 1]
        row, inside = np.repeat(np.arange(pointer.size - 1), np.diff(pointer)), slice(pointer[0], pointer[-1])
        values[inside] = np.asarray(X[start : start + BLOCK] @ G.T)[row, pattern.indices[inside]]
    return values


@cache
def numba_is_here() -> bool:
    """Whether the compiled loops can be had."""
    return importlib.util.find_spec("numba") is not None


def dense(matrix: Matrix) -> Array:
    """As a float64 array, whether CSR or dense."""
    return np.asarray(matrix.todense() if sp.issparse(matrix) else matrix, dtype=np.float64)
