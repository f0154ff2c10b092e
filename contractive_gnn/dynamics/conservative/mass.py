r"""Fields that keep the sum of the entries of a state."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from contractive_gnn.dynamics.conservative.matrix import StateMatrix, check_matrix, skew
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.integrators import Invariant
from contractive_gnn.norms import L2, number


class MassField(VectorField):
    r"""A field that moves mass between the entries of a state, and makes none.

    .. math::
        X(x) = S(x)\,1, \qquad S(x) = B(x) - B(x)^\top

    ``1ᵀX(x) = 1ᵀS(x)1 = 0``: the flow keeps ``Σ_i x_i`` of each sample, and so does every Runge–Kutta scheme. ``S_ij``
    is what entry i gets from entry j per unit of time. Every field with ``1ᵀX = 0`` is of this form, with
    ``S = (X1ᵀ − 1Xᵀ)/d``; :class:`CenteredField` makes one of any field.

    With B L-Lipschitz in the Frobenius norm, X is ``√(2d) L``-Lipschitz in ℓ2, since ``M ↦ (M − Mᵀ)1`` has the norm
    ``√(2d)``. No sign of DX is known: the rate is ``−√(2d) L``, and no step is known to contract.

    Args:
        matrix: B.

    Shapes:
        ``[..., d]``.

    Raises:
        TypeError: for something else than a :class:`StateMatrix`.
        ValueError: (called) for states of another length.

    Example:
        ``MassField(PerceptronMatrix(3, 16))``, for the susceptible, infected and recovered of an epidemic.
    """

    conserves = frozenset[Invariant]({"mass"})

    def __init__(self, matrix: StateMatrix) -> None:
        super().__init__()
        check_matrix(matrix)
        self.matrix = matrix

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate X; the field does not depend on time."""
        return skew(self.matrix, x).sum(dim=-1)

    def field_lipschitz(self) -> Tensor | float:
        """``√(2d) L``."""
        return math.sqrt(2 * self.matrix.dim) * self.matrix.lipschitz()

    def rate(self) -> Tensor | float:
        """``−√(2d) L``."""
        return -self.field_lipschitz()

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """``1 + h √(2d) L``, for every h."""
        return 1.0 + step * self.field_lipschitz()

    @property
    def certified(self) -> bool:
        """Whether the constant of the matrix is proved."""
        return self.matrix.certified

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state in float64, standard normal."""
        return torch.randn(4, self.matrix.dim, dtype=torch.float64, generator=generator)


class CenteredField(VectorField):
    r"""Any field less the mean of its entries.

    .. math::
        X(x) = \Bigl(I - \tfrac1d 11^\top\Bigr) G(x)

    ``1ᵀX = 0``: the flow keeps ``Σ_i x_i`` along the last axis of each sample, and so does every Runge–Kutta scheme.
    The matrix is an orthogonal projection, so X is as Lipschitz in ℓ2 as G. What G contracts X need not: the rate is
    ``−L``.

    Args:
        field: G, with its constants in ℓ2.

    Shapes:
        those of G, ``[..., d]``.

    Raises:
        TypeError: for something that is no vector field.
        ValueError: for a field with its constants in another norm.

    Example:
        ``CenteredField(PerceptronField(Dense(k), "tanh", outer=Dense(a), bias=b))``
    """

    conserves = frozenset[Invariant]({"mass"})

    def __init__(self, field: VectorField) -> None:
        super().__init__()
        if not isinstance(field, VectorField):
            raise TypeError(f"field must be a vector field, got {type(field).__name__}")
        if field.norm != L2:
            raise ValueError(f"the constants here are in l2, and those of the field in {field.norm}")
        self.field = field

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate X."""
        value: Tensor = self.field(x, t)
        return value - value.mean(dim=-1, keepdim=True)

    def field_lipschitz(self) -> Tensor | float:
        """That of G."""
        return self.field.field_lipschitz()

    def rate(self) -> Tensor | float:
        """``−L``."""
        constant = self.field_lipschitz()
        return -constant if number(constant) < math.inf else -math.inf

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """``1 + hL``, for every h."""
        return 1.0 + step * self.field_lipschitz()

    def anchored(self, anchor: Tensor) -> VectorField:
        """The centred field of the anchored G; itself where G has no anchor."""
        field = self.field.anchored(anchor)
        return self if field is self.field else CenteredField(field)

    @property
    def anchor_lipschitz(self) -> float:
        """That of G."""
        return self.field.anchor_lipschitz

    @property
    def certified(self) -> bool:
        """Whether the constant of G is proved."""
        return self.field.certified

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state of G."""
        return self.field.state(generator=generator)
