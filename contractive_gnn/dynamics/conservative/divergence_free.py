r"""Shears in directions that are learned: the sums of them are divergence-free fields that need no two halves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contractive_gnn import activations
from contractive_gnn.activations import Activation
from contractive_gnn.checks import check_whole
from contractive_gnn.dynamics.conservative.shear import sheared
from contractive_gnn.dynamics.energy import check_length
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.dynamics.layer import own_operator
from contractive_gnn.dynamics.spectrum import smoothness
from contractive_gnn.integrators import Invariant
from contractive_gnn.operators import Dense
from contractive_gnn.operators.singular import largest_singular_value
from contractive_gnn.seeding import drawing


class ShearField(VectorField):
    r"""States moved across the directions that decide how far: a shear along learned directions.

    .. math::
        X(x) = A\,\sigma(Kx + b), \qquad KA = 0

    ``Kx`` stays along the flow. So ``trace DX = trace(Dσ KA) = 0`` and ``DX·X = A Dσ KA σ = 0``: a step of any length
    is the exact flow, and keeps the volume. A :class:`CouplingField` is a sum of two such fields whose K picks a half
    of the entries. A :class:`~contractive_gnn.dynamics.SumField` of several of them is divergence-free, and
    ``"lie-trotter"`` and ``"strang"`` keep its volume to rounding. Every polynomial field without divergence is a sum
    of shears (McLachlan and Quispel, *Explicit geometric integration of polynomial vector fields*, BIT 2004).

    It is ``L = s ‖A‖ ‖K‖``-Lipschitz in ℓ2, s the largest slope of σ in size. The range of A is orthogonal to that of
    Kᵀ: the log norm is at most L/2, and a step has the largest singular value of ``[[1, hL], [0, 1]]`` at most.

    Args:
        dim: d.
        rank: r < d, the number of neurons, and the number of directions that stay.
        activation: σ, an :class:`~contractive_gnn.activations.Activation` or its name.

    Shapes:
        ``[..., d]``.

    Raises:
        TypeError: for sizes that are no whole numbers.
        ValueError: for r below 1, or not below d, and an unknown activation; (called) for states of another length.

    Example:
        ``SumField(*(ShearField(3, 1) for _ in range(8)))`` in three dimensions, an odd number.
    """

    conserves = frozenset[Invariant]({"volume"})
    shear = True

    def __init__(self, dim: int, rank: int = 1, activation: str | Activation = "tanh") -> None:
        super().__init__()
        check_whole("dim", dim, least=2)
        check_whole("rank", rank, least=1, below=dim)
        self.dim, self.rank = dim, rank
        self.sigma = activations.activation(activation)
        self.operator = Dense(nn.Parameter(torch.zeros(rank, dim)))
        self.bias = nn.Parameter(torch.zeros(rank))
        self.push = nn.Parameter(torch.zeros(rank, dim))
        self.reset_parameters()

    @property
    def directions(self) -> Tensor:
        """``Aᵀ``, ``[r, d]``: the learned directions less what they have in the span of K's rows."""
        basis, _ = torch.linalg.qr(self.operator.weight.mT)  # [d, r], of orthonormal columns
        across = self.push
        for _ in range(2):  # once more, for what rounding leaves where most of it is taken off
            across = across - (across @ basis) @ basis.mT
        return across

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate X; the field does not depend on time."""
        check_length(x, self.dim)
        value: Tensor = self.sigma(self.operator(x) + self.bias)
        return value @ self.directions

    def field_lipschitz(self) -> Tensor | float:
        """``L``."""
        across = largest_singular_value(self.directions, extra=2 * self.dim)
        return smoothness(self.sigma, across, self.operator.norm_bound())

    def rate(self) -> Tensor | float:
        """``−L/2``."""
        return -self.field_lipschitz() / 2

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """``‖[[1, hL], [0, 1]]‖``, for every h."""
        return sheared(step * self.field_lipschitz())

    @property
    def certified(self) -> bool:
        """Whether σ is this library's own: the slopes of others are not proved here."""
        return type(self.sigma).__module__.startswith("contractive_gnn.") and own_operator(self.operator)

    def reset_parameters(self) -> None:
        """Draw K, b and the directions anew."""
        with drawing(), torch.no_grad():
            self.operator.weight.normal_(std=self.dim**-0.5)
            self.bias.uniform_(-1.0, 1.0)
            self.push.normal_(std=self.rank**-0.5)

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state in float64, standard normal."""
        return torch.randn(4, self.dim, dtype=torch.float64, generator=generator)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.dim}, rank={self.rank}"
