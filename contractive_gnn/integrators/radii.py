"""The contractivity radii of a Runge–Kutta table: the conditions under which they are proved."""

from __future__ import annotations

import math

import numpy as np

Table = tuple[tuple[float, ...], ...]
_SLACK = 1e-12


def circle_contractive(a: Table, b: tuple[float, ...], r: float) -> bool:
    """Whether ``BA + AᵀB − bbᵀ + B/r ⪰ 0`` with ``B = diag(b) > 0`` (Dahlquist and Jeltsch 1979).

    Args:
        a: the rows of A.
        b: the weights.
        r: > 0, ``inf`` for algebraic stability.
    """
    table, weights = np.array(a), np.array(b)
    if (weights <= 0).any():
        return False
    m = np.diag(weights) @ table
    m = m + m.T - np.outer(weights, weights)
    scale = weights**-0.5
    lowest = np.linalg.eigvalsh(scale[:, None] * m * scale)[0]
    return bool(lowest + (0.0 if math.isinf(r) else 1.0 / r) >= -_SLACK)


def absolutely_monotonic(a: Table, b: tuple[float, ...], r: float) -> bool:
    """Whether ``K(I + rK)⁻¹ ≥ 0`` and ``rK(I + rK)⁻¹1 ≤ 1``, K being A with the last row ``bᵀ`` (Kraaijevanger 1991).

    Args:
        a: the rows of A.
        b: the weights.
        r: > 0; ``inf`` is tried as 1, 10³ and 10⁶.
    """
    if math.isinf(r):
        return all(absolutely_monotonic(a, b, value) for value in (1.0, 1e3, 1e6))
    s = len(b)
    k = np.zeros((s + 1, s + 1))
    k[:s, :s], k[s, :s] = a, b
    kept = k @ np.linalg.inv(np.eye(s + 1) + r * k)
    return bool((kept >= -_SLACK).all() and (r * kept @ np.ones(s + 1) <= 1 + _SLACK).all())
