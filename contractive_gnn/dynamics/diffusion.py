r"""Nonlinear random-walk diffusion, contracting in ℓ∞."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch_geometric.nn import MessagePassing

from contractive_gnn import kernels
from contractive_gnn.activations import Activation, activation
from contractive_gnn.dynamics.base import Dynamics
from contractive_gnn.graph import Graph


class Diffusion(Dynamics, MessagePassing):  # type: ignore[misc]
    r"""Nonlinear diffusion with a fidelity term, contracting in the largest entry whatever the degrees.

    .. math::
        \dot F_i = -\sum_j p_{ij}\,\sigma(F_i - F_j) - \mu (F_i - F^0_i),
        \qquad p_{ij} = \frac{a_{ij}}{1 + \sum_k a_{ik}}

    ``p ≥ 0`` has row sums below 1 and σ acts entry by entry with slopes in [0, 1], so every row of the Jacobian has
    log norm at most −μ: ``μ_∞(DX) ≤ −μ``, and for ``h ≤ 1/(1 + μ)`` an Euler step contracts by ``1 − hμ`` in the max
    norm (Davydov, Jafarpour, Bullo, *Non-Euclidean contraction theory*, 2022). One edge moves a node by at most
    ``h p_ij sup|σ|`` per step: a bounded σ caps the influence of every neighbour.

    Args:
        sigma: an elementwise :class:`Activation` with slopes in [0, 1], or its name.
        mu: μ ≥ 0.
        threshold: λ of a named σ, in the units of the features; None takes its default, 1.

    Shapes:
        state ``[n, c]``, edge weights ``[E]``, not negative.

    Raises:
        ValueError: for a negative μ, a group activation or slopes outside [0, 1].
    """

    norm: ClassVar[str] = "linf"

    def __init__(self, *, sigma: str | Activation = "huber", mu: float = 0.3, threshold: float | None = None) -> None:
        super().__init__(aggr="sum")
        if mu < 0:
            raise ValueError(f"mu must be at least 0, got {mu!r}")
        self.sigma = activation(sigma, threshold=threshold)
        if self.sigma.group or self.sigma.slopes[0] < 0 or self.sigma.slopes[1] > 1:
            raise ValueError(
                f"the ℓ∞ diffusion needs an elementwise activation with slopes in [0, 1], got {self.sigma} with slopes "
                f"{self.sigma.slopes}; use GradientFlow for group or redescending activations"
            )
        self.mu = float(mu)

    def transition(self, graph: Graph) -> Tensor:
        """``p_ij`` per edge, ``[E]``: random walk with a self-loop of weight 1."""
        return graph.edge_weight / (1.0 + graph.row_sum(graph.edge_weight))[graph.target]

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate the right-hand side of the class's equation; shape ``[n, c]``."""
        p = self.transition(graph)
        if kernels.available(x, p, self.sigma) and not self.explain:
            pull = kernels.edge_sum(x, p, graph.edge_index, self.sigma, inside=False)
        else:
            size = (len(x), len(x))
            pull = self.propagate(graph.edge_index, x=x, p=p.unsqueeze(-1), size=size)  # type: ignore[operator]
        if self.mu:
            pull = pull + self.mu * (x if anchor is None else x - anchor)
        return -pull

    def message(self, x_i: Tensor, x_j: Tensor, p: Tensor) -> Tensor:
        """The pull along one edge, ``p_ij σ(x_i − x_j)``."""
        return p * self.sigma.antisymmetric(x_i - x_j)

    def rate(self, graph: Graph) -> float:
        """κ = μ."""
        return self.mu

    def max_step(self, graph: Graph) -> float:
        """``1/(1 + μ)``."""
        return 1.0 / (1.0 + self.mu)
