r"""Nonlinear random-walk diffusion, contracting in ℓ∞."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from contractive_gnn import activations
from contractive_gnn.activations import Activation
from contractive_gnn.checks import check_real
from contractive_gnn.compiled import kernels
from contractive_gnn.deprecated import renamed
from contractive_gnn.dynamics.base import (
    Dynamics,
    check_state,
    larger,
    methods,
    passes_plainly,
    pull_limit,
    spread,
)
from contractive_gnn.graph import Graph


@renamed(sigma="activation")
class Diffusion(Dynamics, MessagePassing):  # type: ignore[misc]
    r"""Nonlinear diffusion with a fidelity term, contracting in the largest entry whatever the degrees.

    .. math::
        \dot F_i = -\sum_j p_{ij}\,\sigma(F_i - F_j) - \mu (F_i - F^0_i),
        \qquad p_{ij} = \frac{a_{ij}}{1 + \sum_k a_{ik}}

    ``p ≥ 0`` has row sums below 1 and σ acts entry by entry with slopes in ``[−ρ, 1]``, so every row of the Jacobian
    has log norm at most ``−κ``, ``κ = μ − 2ρ``, and for ``h ≤ 2/(2 + μ + κ)`` an Euler step is ``(1 − hκ)``-Lipschitz
    in the max norm (Davydov, Jafarpour, Bullo, *Non-Euclidean contraction theory*, 2022). For a monotone σ, ρ = 0,
    κ = μ and ``h ≤ 1/(1 + μ)``; a redescending one needs ``μ ≥ 2ρ``. One edge moves a node by at most
    ``h p_ij sup|σ|`` per step: a bounded σ caps the influence of every neighbour.

    Args:
        activation: σ, an elementwise :class:`Activation` with slopes of at most 1, or its name.
        mu: μ ≥ 0.
        threshold: λ of a named σ, in the units of the features; None takes its default, 1.

    Shapes:
        state ``[n, c]``, edge weights ``[E]``, not negative.

    Raises:
        ValueError: for a negative μ, a group activation or slopes above 1; (called) for a state of another shape.
    """

    norm = "linf"

    def __init__(
        self, *, activation: str | Activation = "huber", mu: float = 0.3, threshold: float | None = None
    ) -> None:
        super().__init__(aggr="sum")
        check_real("mu", mu, least=0)
        self.sigma = activations.activation(activation, threshold=threshold)
        if self.sigma.group or self.sigma.slopes[1] > 1:
            raise ValueError(
                f"the ℓ∞ diffusion needs an elementwise activation with slopes of at most 1, got {self.sigma} with "
                f"slopes {self.sigma.slopes}; use GraphGradientFlow for group activations"
            )
        self.mu = float(mu)

    def transition(self, graph: Graph) -> Tensor:
        """``p_ij`` per edge, ``[E]``: random walk with a self-loop of weight 1."""
        return graph.edge_weight / (1.0 + graph.row_sum(graph.edge_weight))[graph.target]

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate the right-hand side of the class's equation; shape ``[n, c]``."""
        check_state(self, x, graph)
        p = self.transition(graph)
        if graph.serves(x) and kernels.available(self.sigma, x) and passes_plainly(self, _OWN):
            force = kernels.flow(x, p, graph.edge_index, self.sigma)
        else:
            size = (x.size(0), x.size(0))  # len(x) would be a constant to torch.export
            force = -self.propagate(graph.edge_index, x=x, p=p.unsqueeze(-1), size=size)  # type: ignore[operator]
        return force - self.mu * (x if anchor is None else x - anchor) if self.mu else force

    def euler(
        self, x: Tensor, graph: Graph, *, step: Tensor | float, num_steps: int, anchor: Tensor | None = None
    ) -> Tensor:
        """K Euler steps, compiled in one where the sum over the edges is."""
        check_state(self, x, graph)
        served = graph.serves(x) and kernels.fixed(step, self.mu) and kernels.available(self.sigma, x, anchor)
        if not (served and passes_plainly(self, _OWN_EULER)):
            return super().euler(x, graph, step=step, num_steps=num_steps, anchor=anchor)
        p = self.transition(graph)
        return kernels.euler(
            x, p, graph.edge_index, self.sigma, step=step, mu=self.mu, num_steps=num_steps, anchor=anchor
        )

    def message(self, x_i: Tensor, x_j: Tensor, p: Tensor) -> Tensor:
        """The pull along one edge, ``p_ij σ(x_i − x_j)``."""
        return p * self.sigma.antisymmetric(x_i - x_j)

    def rate(self, graph: Graph) -> float:
        """κ = μ − 2ρ."""
        return self.mu - 2.0 * self.sigma.weak_convexity

    def max_step(self, graph: Graph) -> float:
        """``2/(2 + μ + κ)``; 0 where the rate is negative: a redescending σ that the fidelity does not outweigh."""
        rate = self.rate(graph)
        return 2.0 / (2.0 + self.mu + rate) if rate >= 0 else 0.0

    def lipschitz(self, graph: Graph, step: Tensor | float) -> Tensor | float:
        """``max(1 − hκ, h(2 + μ) − 1)``, for every step: a row's own entry may change its sign beyond the longest."""
        return larger(1.0 - step * self.rate(graph), step * (2.0 + self.mu) - 1.0)

    @property
    def uniform(self) -> bool:
        """True: every row of p sums to less than 1."""
        return True

    @property
    def anchor_lipschitz(self) -> float:
        """``μ``."""
        return self.mu

    def structure_lipschitz(self, graph: Graph, x: Tensor | None = None) -> float:
        """``max_i b_i/(1 + d_i)`` with b_i the largest ``|σ|`` of node i's difference to *any* node.

        ``Σ_j |p̃_ij − p_ij| ≤ 2 r_i/(1 + max(d_i, d̃_i))`` for a change r_i of node i's weights, which is at most half of
        the sum over both orientations.
        """
        if graph.num_nodes == 0:
            return 0.0
        with torch.no_grad():
            b = graph.edge_weight.new_full((graph.num_nodes,), self.sigma.bound)
            if x is not None and x.numel():
                b = torch.minimum(b, max(abs(s) for s in self.sigma.slopes) * spread(x).amax(dim=1))
            return float((b / (1.0 + graph.row_sum(graph.edge_weight))).max())

    def structure_saturation(self, graph: Graph, x: Tensor | None = None) -> tuple[float, float]:
        """``s = max_i sup|σ| (1 + d_i/(1 + d_i))``, since p and p̃ sum to ``d_i/(1 + d_i)`` and to less than 1.

        At a state, :func:`~contractive_gnn.dynamics.base.pull_limit`. No r is needed beside it in ℓ∞.
        """
        if graph.num_nodes == 0:
            return math.inf, 0.0
        with torch.no_grad():
            if x is not None and x.numel():
                return math.inf, pull_limit(x, -self.field(x, graph, anchor=x), self.sigma)
            own = self.transition(graph)
            return math.inf, self.sigma.bound * (1.0 + float(graph.row_sum(own).max()))


_OWN = methods(Diffusion, "message", "transition")
_OWN_EULER = methods(Diffusion, "message", "transition", "field")
