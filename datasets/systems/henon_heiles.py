"""The system of Hénon and Heiles."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.checks import check_real
from contractive_gnn.datasets.systems.canonical import uniform_between, unit_masses
from contractive_gnn.datasets.systems.system import SYSTEMS, FloatArray, Mask, System
from contractive_gnn.dynamics import Energy, SeparableHamiltonian


class HenonHeilesPotential(Energy):
    """``V(q) = (q₁² + q₂²)/2 + q₁²q₂ − q₂³/3``."""

    dim = 2

    def forward(self, x: Tensor) -> Tensor:
        """``[…, 2] ↦ […]``."""
        a, b = x[..., 0], x[..., 1]
        return (a.square() + b.square()) / 2 + a.square() * b - b**3 / 3

    def gradient(self, x: Tensor) -> Tensor:
        """``(q₁ + 2q₁q₂, q₂ + q₁² − q₂²)``."""
        a, b = x[..., 0], x[..., 1]
        return torch.stack([a + 2 * a * b, b + a.square() - b.square()], dim=-1)


def in_triangle(x: FloatArray) -> Mask:
    """Whether q lies in the triangle with the corners (0, 1) and (±√3/2, −1/2), where orbits below 1/6 stay."""
    a, b = x[:, 0], x[:, 1]
    return (b > -0.5) & (b < 1 - math.sqrt(3) * np.abs(a))


@SYSTEMS.register("henon-heiles")
def henon_heiles(*, largest_energy: float = 1 / 12) -> System:
    """Two oscillators with a cubic coupling (Hénon and Heiles, Astronomical Journal 69, 1964).

    Args:
        largest_energy: E of the initial states, in (0, 1/6): beyond, orbits escape. They are uniform in the part of
            the space with ``E/10 ≤ H ≤ E`` where orbits are bounded. At 1/12 almost all orbits are regular, at 1/8 a
            large part is chaotic.
    """
    check_real("largest_energy", largest_energy, above=0, below=1 / 6)
    field = SeparableHamiltonian(unit_masses(2), HenonHeilesPotential())
    speed = math.sqrt(2 * largest_energy)
    box = np.array([math.sqrt(3) / 2, 1.0, speed, speed])
    draw = uniform_between(box, field.energy, low=largest_energy / 10, high=largest_energy, inside=in_triangle)
    return System("henon-heiles", field, ("q1", "q2", "p1", "p2"), draw, {"energy": field.energy}, canonical=True)
