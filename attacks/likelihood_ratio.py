"""The degree test of Nettack and Metattack: which edge flips leave the degree distribution looking as it did.

Zügner, Akbarnejad and Günnemann, *Adversarial Attacks on Neural Networks for Graph Data* (KDD 2018), §4.1: fit power
laws p(d) ∝ d^-α to the degrees d ≥ d_min of the clean graph, of the perturbed graph and of both together, and accept a
flip while the likelihood-ratio statistic stays below a cutoff of the χ² distribution with one degree of freedom.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from contractive_gnn.attacks.factored_matrix import Array, Indices

D_MIN: Final = 2


class DegreeTest:
    """Λ < ``cutoff`` for every possible flip of one edge, where

        Λ = −2 ℓ(clean ∪ perturbed) + 2 (ℓ(clean) + ℓ(perturbed)),
        ℓ = k log α + k α log d_min + (α + 1) Σ log d,    α = 1 + k / (Σ log d − k log(d_min − ½)),

    with k degrees d ≥ d_min = 2 (and the sign of the last term as in the authors' code). Λ depends on the two degrees
    only, so there is one table per direction of the flip, not one value per pair of nodes. It is computed in float64;
    DeepRobust's float32 rounds away what the usual cutoff of 0.004 compares with.

    Args:
        clean: degrees of the clean graph ``[n]``, without self-loops.
        current: degrees of the graph perturbed so far ``[n]``.
        cutoff: 0.004 is a p-value of about 0.95.
    """

    def __init__(self, clean: Array, current: Array, *, cutoff: float) -> None:
        distinct, self._kind = np.unique(current, return_inverse=True)
        self._may_add = _ratios(clean, current, distinct, +1) < cutoff
        self._may_remove = _ratios(clean, current, distinct, -1) < cutoff

    def may_add(self, rows: Indices | slice, columns: Indices | slice) -> NDArray[np.bool_]:
        """Whether an edge may be inserted between each of ``rows`` and each of ``columns``."""
        allowed: NDArray[np.bool_] = self._may_add[np.ix_(self._kind[rows], self._kind[columns])]
        return allowed

    def may_remove(self, u: Indices, v: Indices) -> NDArray[np.bool_]:
        """Whether the edge between ``u[i]`` and ``v[i]`` may be deleted, for each i."""
        allowed: NDArray[np.bool_] = self._may_remove[self._kind[u], self._kind[v]]
        return allowed


def _ratios(clean: Array, current: Array, distinct: Array, change: int) -> Array:
    """Λ after the degrees a and b of two nodes both change by ``change``; a, b range over ``distinct``."""
    k_clean, log_clean = _tail(clean)
    k_current, log_current = _tail(current)
    k_gain = np.asarray(distinct + change >= D_MIN, dtype=np.float64) - (distinct >= D_MIN)
    log_gain = _tail_log(distinct + change) - _tail_log(distinct)
    k = k_current + k_gain[:, None] + k_gain
    log_sum = log_current + log_gain[:, None] + log_gain
    with np.errstate(divide="ignore", invalid="ignore"):  # no degree of 2 or more is left: nan, never below
        together = _log_likelihood(k_clean + k, log_clean + log_sum)
        apart = _log_likelihood(np.asarray(k_clean), np.asarray(log_clean)) + _log_likelihood(k, log_sum)
        ratios: Array = -2 * together + 2 * apart
    return ratios


def _tail(degrees: Array) -> tuple[float, float]:
    return float((degrees >= D_MIN).sum()), float(_tail_log(degrees).sum())


def _tail_log(degrees: Array) -> Array:
    return np.log(np.where(degrees >= D_MIN, degrees, 1))


def _log_likelihood(k: Array, log_sum: Array) -> Array:
    alpha = 1 + k / (log_sum - k * np.log(D_MIN - 0.5))
    value: Array = k * np.log(alpha) + k * alpha * np.log(D_MIN) + (alpha + 1) * log_sum
    return value
