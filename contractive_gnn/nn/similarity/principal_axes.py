"""The principal axes of a matrix, cut where its singular values have a gap.

Lanczos' method finds those of a sparse one. A randomised method takes as long for axes that are less exact: the values
around the cut are close to each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

_TIE = 1e-6
"""Singular values this close, relative to their size, are one value."""

_NOTHING = 1e-10
"""Singular values this much smaller than the largest are 0."""

_DENSE = 4000
"""Up to so many rows or columns all singular values are computed where some tie."""

_BLOCK = 1 << 22
"""So many entries of a dense matrix are in double precision at a time."""

_SQUARED = 1e-7
"""Singular values this much smaller than the largest are 0 where they come from the squares."""


def principal_axes(rows: sp.csr_matrix, rank: int) -> tuple[Tensor | None, Tensor]:
    """The first right singular vectors ``[d, rank]`` of the row-normalised tf-idf matrix, and idf ``[d]``.

    ``idf = 1 + log((1 + n)/(1 + df))``, df the number of rows with the feature. None for the vectors where rows has no
    more than ``rank`` columns or rows, and where its singular values have no gap to cut at: see :func:`_above_the_gap`.
    """
    from scipy.sparse.linalg import svds  # 0.2 s of import time, which most models do not need

    n, d = rows.shape
    idf = 1.0 + np.log((1.0 + n) / (1.0 + np.asarray((rows != 0).sum(axis=0)).ravel()))
    if min(n, d) <= rank + 1:
        return None, torch.from_numpy(idf)
    if not rows.count_nonzero():  # Lanczos' method has nothing to begin with, and any axes will do
        return torch.eye(d, rank, dtype=torch.float64), torch.from_numpy(idf)
    rows = rows @ sp.diags(idf)
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    rows = sp.diags(1.0 / np.maximum(length, np.finfo(np.float64).tiny)) @ rows
    start = np.random.default_rng(0).normal(size=min(n, d))
    _, values, vectors = svds(rows, k=rank, v0=start)
    # a value of 0 has vectors on which no row has a component
    if values.min() > _NOTHING * values.max() and _tied(values.min(), _next_value(rows, vectors, start)):
        axes = _above_the_gap(rows, values, vectors)
        return None if axes is None else torch.from_numpy(axes.copy()), torch.from_numpy(idf)
    return torch.from_numpy(vectors[np.argsort(-values)].T.copy()), torch.from_numpy(idf)


def narrow(x: Tensor) -> bool:
    """Whether :func:`axes_of_squares` is the shorter way: dense, and at least as many rows as its few columns."""
    return x.layout == torch.strided and x.shape[1] <= min(x.shape[0], 1024)


def axes_of_squares(x: Tensor, rank: int) -> tuple[Tensor | None, Tensor]:
    """:func:`principal_axes` of a dense matrix of few columns, block by block, from the eigenvectors of ``RᵀR``.

    All singular values are found, and beside x only one block and a ``[d, d]`` matrix are held. The axes are those of
    the other way up to about 1e-8 where the values around the cut differ by a percent: squares have half the digits.

    Args:
        x: dense ``[n, d]``, n ≥ d.
        rank: as there.
    """
    n, d = x.shape
    blocks = torch.split(x.detach().cpu(), max(1, _BLOCK // max(1, d)))
    count = sum((torch.count_nonzero(block, dim=0).double() for block in blocks), torch.zeros(d, dtype=torch.float64))
    idf = 1.0 + torch.log((1.0 + n) / (1.0 + count))
    if d <= rank + 1:
        return None, idf
    square = torch.zeros(d, d, dtype=torch.float64)
    for block in blocks:
        rows = block.double() * idf
        rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        square.addmm_(rows.t(), rows)
    squares, vectors = torch.linalg.eigh(square)
    values, vectors = squares.flip(0).clamp(min=0.0).sqrt().tolist(), vectors.flip(1)
    if values[rank - 1] <= _SQUARED * values[0] or not _tied(values[rank - 1], values[rank]):
        return vectors[:, :rank].contiguous(), idf
    gaps = [k for k in range(1, rank + 1) if not _tied(values[k - 1], values[k])]
    return vectors[:, : gaps[-1]].contiguous() if gaps else None, idf


def _tied(value: float, following: float) -> bool:
    """Whether a singular value and one that should be smaller are one value: then their vectors are arbitrary."""
    return bool(following >= (1 - _TIE) * value)


def _next_value(rows: sp.csr_matrix, vectors: np.ndarray[Any, Any], start: np.ndarray[Any, Any]) -> float:
    """The largest singular value beside those of these right singular vectors ``[rank, d]``."""
    from scipy.sparse.linalg import LinearOperator, svds

    def forward(v: np.ndarray[Any, Any]) -> Any:
        return rows @ (v.ravel() - vectors.T @ (vectors @ v.ravel()))

    def adjoint(u: np.ndarray[Any, Any]) -> Any:
        v = rows.T @ u.ravel()
        return v - vectors.T @ (vectors @ v)

    rest = LinearOperator(rows.shape, matvec=forward, rmatvec=adjoint, dtype=np.float64)
    return float(svds(rest, k=1, v0=start, tol=1e-4, return_singular_vectors=False)[0])


def _above_the_gap(
    rows: sp.csr_matrix, values: np.ndarray[Any, Any], vectors: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any] | None:
    """As many right singular vectors as lie above the last gap among the first ``rank + 1`` singular values, or None.

    Of a value that several vectors have, any basis will do, and which one is found depends on the order of the columns.
    So all of them are taken or none. Lanczos' method may miss some of them: up to 4,000 rows or columns the values are
    those of the dense matrix.
    """
    rank, wide = values.size, rows.shape[1] > rows.shape[0]
    order = np.argsort(-values)
    values, vectors = values[order], vectors[order].T
    if min(rows.shape) <= _DENSE:
        squares, basis = np.linalg.eigh((rows @ rows.T if wide else rows.T @ rows).toarray())
        values, basis = np.sqrt(np.maximum(squares[::-1], 0.0)), basis[:, ::-1]
    gaps = [k for k in range(1, min(rank + 1, values.size)) if not _tied(values[k - 1], values[k])]
    if not gaps:
        return None
    k = gaps[-1]
    if min(rows.shape) > _DENSE:
        return vectors[:, :k]
    found: np.ndarray[Any, Any] = (rows.T @ basis[:, :k]) / values[:k] if wide else basis[:, :k]
    return found
