r"""Fields tangent to spheres."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from contractive_gnn.dynamics.conservative.matrix import StateMatrix, check_matrix, skew
from contractive_gnn.dynamics.conservative.shear import moved
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.integrators import Invariant
from contractive_gnn.operators.singular import largest_singular_value


class SkewField(VectorField):
    r"""A field that turns every state about the origin.

    .. math::
        X(x) = (B(x) - B(x)^\top)\, x

    ``⟨X(x), x⟩ = 0`` since the matrix is skew: the flow keeps ``‖x‖₂`` of each sample. On ``x ≠ 0`` every field tangent
    to the spheres is of this form, with ``B(x) = X(x)xᵀ/‖x‖²``. Explicit Runge–Kutta schemes do not keep the norm;
    ``"sphere-projection"`` does, and ``"implicit-midpoint"`` to the tolerance that its equation is solved to.

    Of a B that depends on x no constant is known: X may grow like ``‖x‖`` times the slope of B. A constant B gives a
    linear rotation: the volume is kept too, the rate is 0, and an Euler step is ``(1 + h²‖B − Bᵀ‖²)^½``-Lipschitz.

    Args:
        matrix: B.

    Shapes:
        ``[..., d]``.

    Raises:
        TypeError: for something else than a :class:`StateMatrix`.
        ValueError: (called) for states of another length.

    Example:
        >>> import torch
        >>> from contractive_gnn.dynamics import PerceptronMatrix
        >>> field = SkewField(PerceptronMatrix(3, 16)).double()
        >>> x = torch.randn(5, 3, dtype=torch.float64)
        >>> bool(((field(x) * x).sum(dim=-1).abs() < 1e-12).all())
        True
    """

    def __init__(self, matrix: StateMatrix) -> None:
        super().__init__()
        check_matrix(matrix)
        self.matrix = matrix

    @property
    def conserves(self) -> frozenset[Invariant]:  # type: ignore[override]
        """The norm, and of a constant matrix the volume."""
        return frozenset({"norm", "volume"}) if self.matrix.constant else frozenset({"norm"})

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate X; the field does not depend on time."""
        return (skew(self.matrix, x) @ x.unsqueeze(-1)).squeeze(-1)

    def field_lipschitz(self) -> Tensor | float:
        """``‖B − Bᵀ‖`` of a constant matrix."""
        if not self.matrix.constant:
            return math.inf
        like = next(iter((*self.matrix.parameters(), *self.matrix.buffers())), torch.zeros(()))
        return largest_singular_value(skew(self.matrix, like.new_zeros(self.matrix.dim)))

    def rate(self) -> float:
        """0 of a constant matrix."""
        return 0.0 if self.matrix.constant else -math.inf

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """``(1 + h²‖B − Bᵀ‖²)^½`` of a constant matrix, for every h."""
        return moved(step, 0.0, self.field_lipschitz())

    @property
    def certified(self) -> bool:
        """Whether the constants of the matrix are proved."""
        return self.matrix.certified

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state in float64, standard normal."""
        return torch.randn(4, self.matrix.dim, dtype=torch.float64, generator=generator)
