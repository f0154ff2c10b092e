r"""What a grid has beyond its ends: how values are continued there, and which waves fit.

=============== ===================================== =========================== ==================================
boundary        beyond the ends of ``u_0, …, u_{N−1}`` the wall is at              waves of period
=============== ===================================== =========================== ==================================
``"periodic"``  the values again                      nowhere                     N
``"zero"``      0                                     —                           —
``"dirichlet"`` 0 at the wall, ``−u`` behind it       the points −1 and N         2(N + 1), sines
``"neumann"``   ``u`` again behind the wall           −1/2 and N − 1/2            2N, cosines
=============== ===================================== =========================== ==================================

``"dirichlet"`` is the condition ``u = 0`` with one reflection about each wall; with three taps it is the same as
``"zero"``. ``"neumann"`` is ``∂u = 0`` for values in the middle of cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Boundary = Literal["periodic", "zero", "dirichlet", "neumann"]
BOUNDARIES: tuple[str, ...] = get_args(Boundary)
REFLECTING = ("dirichlet", "neumann")


def check_boundary(boundary: object) -> None:
    """Raise ValueError for another boundary."""
    if boundary not in BOUNDARIES:
        names = ", ".join(map(repr, BOUNDARIES[:-1]))
        raise ValueError(f"boundary must be {names} or {BOUNDARIES[-1]!r}, got {boundary!r}")


def continued(n: int, before: int, after: int, boundary: Boundary) -> tuple[list[int], list[float]]:
    """Where the values at ``−before, …, n − 1 + after`` come from: an index into the grid and a factor for each.

    Args:
        n: points of the grid.
        before: points in front of it, below n.
        after: points behind it, below n.
        boundary: one that reflects.
    """
    index, factor = [], []
    for p in range(-before, n + after):
        if boundary == "neumann":
            source, sign = (-1 - p if p < 0 else 2 * n - 1 - p if p >= n else p), 1.0
        elif p in (-1, n):
            source, sign = 0, 0.0
        else:
            source, sign = (-2 - p, -1.0) if p < 0 else (2 * n - p, -1.0) if p > n else (p, 1.0)
        index.append(source)
        factor.append(sign)
    return index, factor


def extend(x: Tensor, reach: Sequence[tuple[int, int]], boundary: Boundary) -> Tensor:
    """Continue the last axes of x beyond their ends, axis by axis.

    Args:
        x: ``[..., N₁, …, N_d]``.
        reach: for each of these axes how many points in front and behind.
        boundary: any.
    """
    if boundary not in REFLECTING:
        pad = [points for ends in reversed(reach) for points in ends]
        mode = "circular" if boundary == "periodic" else "constant"
        return torch.nn.functional.pad(x, pad, mode=mode) if any(pad) else x
    for axis, (before, after) in enumerate(reach, start=-len(reach)):
        if before or after:
            index, factor = continued(x.size(axis), before, after, boundary)
            x = x.index_select(axis, torch.tensor(index, device=x.device))
            if boundary == "dirichlet":
                x = x * _along(factor, axis, x)
    return x


def fold(y: Tensor, reach: Sequence[tuple[int, int]], boundary: Boundary) -> Tensor:
    """The adjoint of :func:`extend`, for a boundary that reflects: what stands beyond the ends is added where it came
    from.
    """
    for axis, (before, after) in enumerate(reach, start=-len(reach)):
        if before or after:
            n = y.size(axis) - before - after
            index, factor = continued(n, before, after, boundary)
            if boundary == "dirichlet":
                y = y * _along(factor, axis, y)
            shape = list(y.shape)
            shape[axis] = n
            y = y.new_zeros(shape).index_add(axis, torch.tensor(index, device=y.device), y)
    return y


def _along(factor: list[float], axis: int, like: Tensor) -> Tensor:
    shape = [1] * -axis
    shape[0] = len(factor)
    return like.new_tensor(factor).view(shape)


def angles(n: int, boundary: Boundary) -> Tensor:
    """The frequencies of the waves that fit: sines for ``"dirichlet"``, cosines for ``"neumann"``; ``[n]`` float64."""
    if boundary == "periodic":
        return 2 * math.pi / n * torch.arange(n, dtype=torch.float64)
    if boundary == "neumann":
        return math.pi / n * torch.arange(n, dtype=torch.float64)
    return math.pi / (n + 1) * torch.arange(1, n + 1, dtype=torch.float64)


def ring(n: int, taps: int, boundary: Boundary) -> int:
    """The length of a ring on which the operator is a part of the periodic one."""
    if boundary == "neumann":
        return 2 * n
    return 2 * (n + 1) if boundary == "dirichlet" else n + taps - 1


def wall_matrices(n: int, taps: int, origin: int, boundary: Boundary) -> Tensor:
    """The matrix of each tap on one axis, ``[taps, n, n]``: rows are places, columns what is read there."""
    index, factor = continued(n, origin, taps - 1 - origin, boundary)
    matrices = torch.zeros(taps, n, n, dtype=torch.float64)
    for tap in range(taps):
        for row in range(n):
            matrices[tap, row, index[row + tap]] = factor[row + tap]
    return matrices
