"""An epidemic in a closed population."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.checks import check_real
from contractive_gnn.datasets.systems.system import SYSTEMS, FloatArray, System
from contractive_gnn.dynamics import VectorField
from contractive_gnn.integrators import Invariant


class SIR(VectorField):
    """``Ṡ = −βSI``, ``İ = βSI − γI``, ``Ṙ = γI`` (Kermack and McKendrick, 1927); ``S + I + R`` is kept.

    Args:
        infection: β.
        recovery: γ.
    """

    conserves = frozenset[Invariant]({"mass"})

    def __init__(self, infection: float, recovery: float) -> None:
        super().__init__()
        self.infection, self.recovery = infection, recovery

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """``[…, 3] ↦ […, 3]``."""
        susceptible, infected = x[..., 0], x[..., 1]
        new, recovering = self.infection * susceptible * infected, self.recovery * infected
        return torch.stack([-new, new - recovering, recovering], dim=-1)

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """Random shares of a population."""
        shares = torch.rand(4, 3, dtype=torch.float64, generator=generator)
        return shares / shares.sum(dim=-1, keepdim=True)


@SYSTEMS.register("sir")
def sir(*, infection: float = 0.5, recovery: float = 0.15) -> System:
    """Susceptible, infected and recovered, as shares of the population; the time is in days.

    Args:
        infection: β > 0, per day.
        recovery: γ > 0, per day.

    Initially S is uniform in [0.1, 1], and I is uniform in [0.01, 0.5] and at most 1 − S.
    """
    check_real("infection", infection, above=0)
    check_real("recovery", recovery, above=0)

    def draw(generator: np.random.Generator, count: int) -> FloatArray:
        susceptible = generator.uniform(0.1, 1.0, count)
        infected = np.minimum(generator.uniform(0.01, 0.5, count), 1 - susceptible)
        return np.stack([susceptible, infected, 1 - susceptible - infected], axis=1)

    def mass(x: Tensor) -> Tensor:
        return x.sum(dim=-1)

    return System("sir", SIR(infection, recovery), ("S", "I", "R"), draw, {"mass": mass})
