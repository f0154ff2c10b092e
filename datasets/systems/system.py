"""A differential equation whose trajectories a network learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from contractive_gnn.dynamics import VectorField
from contractive_gnn.registry import Registry

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class System:
    """An autonomous equation ``ẋ = X(x)`` with known invariants.

    Attributes:
        name: of :data:`SYSTEMS`, or another one.
        field: the true X; its ``conserves`` and ``parts()`` are those of the equation.
        coordinates: the name of each entry of a state.
        draw: ``(generator, count) ↦`` initial states, float64 ``[count, d]``.
        invariants: functions of a state ``[…, d] ↦ […]`` that are constant along each solution, by name.
        canonical: whether a state is ``(q | p)`` with ``q̇ = ∂H/∂p``, ``ṗ = −∂H/∂q``.

    Example:
        >>> from contractive_gnn.datasets.systems import pendulum
        >>> pendulum().coordinates
        ('q', 'p')
    """

    name: str
    field: VectorField
    coordinates: tuple[str, ...]
    draw: Callable[[np.random.Generator, int], FloatArray]
    invariants: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    canonical: bool = False

    @property
    def dim(self) -> int:
        """Entries of a state."""
        return len(self.coordinates)


SYSTEMS: Registry[Callable[..., System]] = Registry("system")
"""What makes each system, by its name."""
