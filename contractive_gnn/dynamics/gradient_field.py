r"""The gradient of an energy as a vector field, of either sign."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from contractive_gnn.checks import check_flag
from contractive_gnn.dynamics.energy import Energy, check_energy
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.norms import L2, number


class GradientField(VectorField):
    r"""The gradient of an energy.

    .. math::
        X(x) = \nabla U(x) \qquad\text{or, with } \texttt{descent},\qquad X(x) = -\nabla U(x)

    With :class:`~contractive_gnn.dynamics.PerceptronEnergy` it is ``Kᵀ(α ⊙ σ(Kx + b))``, with weights α of either sign:
    one half of Presnov's decomposition (:func:`~contractive_gnn.dynamics.presnov_halves`). Such fields are dense among
    all gradient fields, uniformly on compact sets, where σ is continuous and no polynomial (Pinkus, *Approximation
    theory of the MLP model in neural networks*, Acta Numerica 1999, Theorem 4.1: the potentials are dense in C¹ there).

    DX is symmetric. With its eigenvalues in ``[l, u]`` (of the energy's Hessian, with their signs turned for a
    descent) the rate is ``−u``, and an Euler step is ``max(1 + hu, −1 − hl)``-Lipschitz.

    **One step is a gradient too**, that of ``‖x‖²/2 ± hU``. Where ``h l > −1`` this potential is strongly convex: the
    step is then a diffeomorphism of the whole space that keeps the orientation (:meth:`invertible_step`), though
    ``h · field_lipschitz()`` may be far above 1. A composition of steps is no gradient in general, and neither is the
    flow of one field (``docs/theory.md``, section 9).

    Args:
        energy: U.
        descent: take ``−∇U``.

    Shapes:
        ``[..., d]``.

    Raises:
        TypeError: for something that is no energy, or a flag that is none.

    Attributes:
        potential: U; it is not conserved, but grows along the flow (of a descent falls).

    Example:
        >>> import torch
        >>> from contractive_gnn.dynamics import QuadraticEnergy
        >>> field = GradientField(QuadraticEnergy(torch.diag(torch.tensor([1.0, -0.5]))))
        >>> field(torch.tensor([1.0, 1.0])).tolist()
        [1.0, -0.5]
        >>> round(float(field.invertible_step()), 4)
        2.0
    """

    norm = L2

    def __init__(self, energy: Energy, *, descent: bool = False) -> None:
        super().__init__()
        check_energy("energy", energy)
        check_flag("descent", descent)
        self.potential, self.descent = energy, descent

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate X; the field does not depend on time."""
        slope = self.potential.gradient(x)
        return -slope if self.descent else slope

    def curvature(self) -> tuple[Tensor | float, Tensor | float]:
        """``(l, u)``: the eigenvalues of DX lie between them."""
        low, high = self.potential.curvature()
        return (-high, -low) if self.descent else (low, high)

    def rate(self) -> Tensor | float:
        """``−u``."""
        return -self.curvature()[1]

    def max_step(self) -> Tensor | float:
        """``−2/(l + u)`` where ``u ≤ 0``, else 0; ``inf`` of a constant field."""
        low, high = self.curvature()
        if not number(high) <= 0 or number(low) == -math.inf:
            return 0.0
        return -2.0 / (low + high) if number(low) < 0 else math.inf

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """``max(1 + hu, −1 − hl)``, for every h > 0; ``inf`` where nothing is known of the Hessian."""
        low, high = self.curvature()
        return max(1.0 + step * high, -1.0 - step * low, key=number)

    def field_lipschitz(self) -> Tensor | float:
        """``max(|l|, |u|)``."""
        low, high = self.curvature()
        return -low if -number(low) > number(high) else high

    def invertible_step(self) -> Tensor | float:
        """``−1/l``: every shorter Euler step is a diffeomorphism that keeps the orientation.

        ``inf`` where ``l ≥ 0``, and 0 where nothing is known of the Hessian.
        """
        low = self.curvature()[0]
        if not isinstance(low, Tensor):
            return -1.0 / low if low < 0 else math.inf
        # by its value without a branch, which no trace can take
        contracts = low < 0
        return torch.where(contracts, -1.0 / torch.where(contracts, low, -1.0), math.inf)

    @property
    def certified(self) -> bool:
        """Whether the bounds of the Hessian are proved."""
        return self.potential.certified

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state in float64, standard normal, ``[4, d]``.

        Raises:
            NotImplementedError: where the energy does not say how long a state is.
        """
        if self.potential.dim is None:
            return super().state(generator=generator)
        return torch.randn(4, self.potential.dim, dtype=torch.float64, generator=generator)

    def extra_repr(self) -> str:
        """Show the sign."""
        return f"descent={self.descent}"
