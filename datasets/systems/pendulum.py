"""The mathematical pendulum."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from contractive_gnn.checks import check_real
from contractive_gnn.datasets.systems.canonical import uniform_between, unit_masses
from contractive_gnn.datasets.systems.system import SYSTEMS, System
from contractive_gnn.dynamics import Energy, SeparableHamiltonian


class PendulumPotential(Energy):
    """``V(q) = 1 − cos q``, of one angle."""

    dim = 1

    def forward(self, x: Tensor) -> Tensor:
        """``[…, 1] ↦ […]``."""
        return (1 - x.cos()).sum(dim=-1)

    def gradient(self, x: Tensor) -> Tensor:
        """``sin q``."""
        return x.sin()

    def curvature(self) -> tuple[float, float]:
        """``cos q``."""
        return -1.0, 1.0


@SYSTEMS.register("pendulum")
def pendulum(*, largest_energy: float = 1.5) -> System:
    """``q̈ = −sin q``, with ``H = p²/2 + 1 − cos q``; a small swing takes 2π.

    Args:
        largest_energy: E of the initial states, in (0, 2): at 2 the pendulum turns over. They are uniform in the part
            of the plane with ``E/50 ≤ H ≤ E`` and ``|q| < π``.
    """
    check_real("largest_energy", largest_energy, above=0, below=2)
    field = SeparableHamiltonian(unit_masses(1), PendulumPotential())
    box = np.array([math.acos(1 - largest_energy), math.sqrt(2 * largest_energy)])
    draw = uniform_between(box, field.energy, low=largest_energy / 50, high=largest_energy)
    return System("pendulum", field, ("q", "p"), draw, {"energy": field.energy}, canonical=True)
