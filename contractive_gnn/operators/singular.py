"""Singular values with their rounding error."""

from __future__ import annotations

import torch
from torch import Tensor

from contractive_gnn.operators.base import require_finite


def rounding(size: int, dtype: torch.dtype) -> float:
    """Relative slack ``4 n eps`` for a singular value of a matrix with at most n rows and columns.

    LAPACK's singular values err by a modest multiple of ``eps ‖A‖₂`` (its users' guide, section 4.9).
    """
    return 4 * size * torch.finfo(dtype).eps


def largest_singular_value(matrix: Tensor, *, extra: int = 0) -> Tensor:
    """An upper bound of ``‖A‖₂``, ``[m, n]`` to a scalar tensor.

    Args:
        matrix: A, real or complex.
        extra: added to the size that the slack is for: what went into the entries.

    Raises:
        TypeError: in half precision.
        ValueError: for entries that are not finite.
    """
    require_decomposable(matrix)
    largest: Tensor = torch.linalg.matrix_norm(matrix, 2)
    return largest * (1.0 + rounding(max(matrix.shape[-2:]) + extra, matrix.real.dtype))


def smallest_singular_value(matrices: Tensor, *, extra: int = 0) -> Tensor:
    """A lower bound of the least ``‖Ax‖/‖x‖`` of all matrices of a batch, ``[..., m, n]`` to a scalar tensor.

    It is 0 for fewer rows than columns. A computed singular value errs by a multiple of ``eps ‖A‖₂``, however small it
    is itself. Arguments and errors are those of :func:`largest_singular_value`.
    """
    require_decomposable(matrices)
    rows, columns = matrices.shape[-2:]
    if rows < columns or matrices.numel() == 0:
        return matrices.real.new_zeros(())
    values = torch.linalg.svdvals(matrices)
    slack = rounding(max(rows, columns) + extra, matrices.real.dtype)
    lower: Tensor = (values[..., -1] - slack * values[..., 0]).min()
    return lower.clamp(min=0.0)


def require_decomposable(matrix: Tensor) -> None:
    """Raise for a matrix whose singular values cannot be computed to some use."""
    if matrix.dtype in (torch.float16, torch.bfloat16):
        raise TypeError(
            f"singular values take float32 or float64, got {matrix.dtype}: its rounding leaves no useful bound; "
            "keep the constrained layer in float32"
        )
    require_finite(matrix)
