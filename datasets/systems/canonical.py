"""What canonical systems share: ``q̇ = ∇T(p)``, ``ṗ = −∇V(q)``, a state is ``(q | p)``, the energy ``T(p) + V(q)``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.datasets.systems.system import FloatArray, Mask
from contractive_gnn.dynamics import QuadraticEnergy


def unit_masses(dim: int) -> QuadraticEnergy:
    """``T(p) = |p|²/2``."""
    return QuadraticEnergy(torch.eye(dim, dtype=torch.float64))


def uniform_between(
    box: FloatArray,
    energy: Callable[[Tensor], Tensor],
    *,
    low: float,
    high: float,
    inside: Callable[[FloatArray], Mask] | None = None,
) -> Callable[[np.random.Generator, int], FloatArray]:
    """Draw uniformly from the states of ``[−box, box]`` with ``low ≤ H ≤ high``, and ``inside``, by rejection."""

    def draw(generator: np.random.Generator, count: int) -> FloatArray:
        found = np.empty((0, len(box)))
        while len(found) < count:
            tried = generator.uniform(-box, box, (4 * count + 16, len(box)))
            level = energy(torch.from_numpy(tried)).numpy()
            kept = (level >= low) & (level <= high)
            if inside is not None:
                kept &= inside(tried)
            found = np.concatenate([found, tried[kept]])
        return found[:count]

    return draw
