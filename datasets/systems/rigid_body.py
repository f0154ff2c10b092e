"""A free rigid body, seen from the body."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.checks import check_real
from contractive_gnn.datasets.systems.system import SYSTEMS, FloatArray, System
from contractive_gnn.dynamics import VectorField
from contractive_gnn.integrators import Invariant


class RigidBody(VectorField):
    """Euler's equations of the angular momentum, ``ẋ = x × I⁻¹x``: ``|x|`` and the energy are kept.

    Args:
        moments: the principal moments of inertia.
    """

    conserves = frozenset[Invariant]({"norm", "energy", "volume"})
    inverse: Tensor

    def __init__(self, moments: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("inverse", 1 / torch.tensor(moments, dtype=torch.float64), persistent=False)

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """``[…, 3] ↦ […, 3]``."""
        turned: Tensor = torch.linalg.cross(x, x * self.inverse.to(x))
        return turned

    def energy(self, x: Tensor) -> Tensor:
        """``Σ x_i²/(2 I_i)``, ``[…, 3] ↦ […]``."""
        return (x.square() * self.inverse.to(x)).sum(dim=-1) / 2

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """Random angular momenta."""
        return torch.randn(4, 3, dtype=torch.float64, generator=generator)


@SYSTEMS.register("rigid-body")
def rigid_body(*, moments: tuple[float, float, float] = (1.0, 2.0, 3.0)) -> System:
    """The angular momentum of a body that turns freely; initially of length 1 and any direction.

    Args:
        moments: principal moments of inertia, positive.
    """
    if not isinstance(moments, tuple) or len(moments) != 3:
        raise TypeError(f"moments must be three numbers in a tuple, got {moments!r}")
    for moment in moments:
        check_real("moments", moment, above=0)
    field = RigidBody(moments)

    def draw(generator: np.random.Generator, count: int) -> FloatArray:
        momenta = generator.standard_normal((count, 3))
        unit: FloatArray = momenta / np.linalg.norm(momenta, axis=1, keepdims=True)
        return unit

    def norm(x: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(x, dim=-1)
        return length

    return System("rigid-body", field, ("x1", "x2", "x3"), draw, {"norm": norm, "energy": field.energy})
