r"""Nonlinear diffusion on a graph that keeps the mass of every channel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from contractive_gnn.activations import Activation
from contractive_gnn.checks import check_real
from contractive_gnn.dynamics.base import Dynamics, check_state
from contractive_gnn.dynamics.graph_gradient_flow import GraphGradientFlow
from contractive_gnn.dynamics.spectrum import Spectrum, lowest, smoothness
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import Invariant


class MassDiffusion(Dynamics):
    r"""Diffusion in which what leaves a node arrives at its neighbours.

    .. math::
        \dot F_i = -\sum_j c_{ij}\,\sigma((F_i - F_j) W) W^\top, \qquad
        c_{ij} = \frac{a_{ij}}{\varepsilon + d_i + d_j}, \quad d_i = \sum_k a_{ik}

    *Mass.* c is symmetric and σ odd, so the flux over an edge is the same at both ends, with opposite signs: the sum
    over the nodes of each channel is kept, by the flow and by every step of a Runge–Kutta method. (A random-walk
    diffusion, :class:`~contractive_gnn.dynamics.Diffusion`, divides by the degree at one end alone, and loses it.)

    *Step.* The field is minus the gradient of a potential, with ``L_c`` the Laplacian of the weights c. By
    ``(x − y)² ≤ (d_i + d_j)(x²/d_i + y²/d_j)``

    .. math::
        x^\top L_c x = \sum_{\{i,j\}} c_{ij} (x_i - x_j)^2
        \le \sum_{\{i,j\}} a_{ij} \Bigl(\frac{x_i^2}{d_i} + \frac{x_j^2}{d_j}\Bigr) = \sum_i x_i^2,

    so ``‖L_c‖ ≤ 1`` on every graph, a limit that complete bipartite graphs with heavy weights approach. With slopes of
    σ up to s, the eigenvalues of −DX lie in ``[0, ν]``, ``ν = s‖W‖²``, and an Euler step of length ``h ≤ 2/ν`` is
    non-expansive in ℓ2 (:mod:`contractive_gnn.dynamics.spectrum`). Slopes down to −ρ make the field expansive: the rate
    is then ``−ρ‖W‖²``.

    There is no fidelity term: it would pull the mass to that of the anchor. Without one the diffusion forgets all but
    the mass of each component, as time goes on.

    Args:
        channels: number of feature channels c.
        activation: σ, an :class:`~contractive_gnn.activations.Activation` or its name; only its odd part acts.
        learn_weight: learn W (``[c, c]``, starts near the identity); False sets W = I.
        epsilon: ε > 0, in the units of the edge weights.

    Shapes:
        state ``[n, c]``, edge weights ``[E]``, not negative.

    Raises:
        ValueError: for an unknown activation, or an ε that is not positive; (called) for a state of another shape.

    Example:
        >>> from contractive_gnn.dynamics import MassDiffusion
        >>> from contractive_gnn.graph import Graph
        >>> x = torch.tensor([[1.0], [0.0], [5.0]])
        >>> graph = Graph.of(x, torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
        >>> float(MassDiffusion(1, learn_weight=False).on(graph).euler(x, step=1.0, num_steps=50).sum())
        6.0
    """

    norm = "l2"
    conserves = frozenset[Invariant]({"mass"})

    def __init__(
        self,
        channels: int,
        *,
        activation: str | Activation = "tanh",
        learn_weight: bool = True,
        epsilon: float = 1.0,
    ) -> None:
        super().__init__()
        check_real("epsilon", epsilon, above=0)
        self.descent = GraphGradientFlow(
            channels, activation=activation, normalization="none", learn_weight=learn_weight
        )
        self.epsilon = float(epsilon)

    def conductance(self, graph: Graph) -> Tensor:
        """``c_ij`` per edge, ``[E]``, the same in both orientations."""
        degree = graph.row_sum(graph.edge_weight)
        return graph.edge_weight / (self.epsilon + degree[graph.source] + degree[graph.target])

    def conducting(self, graph: Graph) -> Graph:
        """The graph with the weights c."""
        return Graph(graph.edge_index, self.conductance(graph), graph.num_nodes, graph.loop_free)

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate the right-hand side of the class's equation; shape ``[n, c]``. The anchor is not read."""
        check_state(self, x, graph, channels=self.descent.channels)
        return self.descent.field(x, self.conducting(graph))

    def euler(
        self, x: Tensor, graph: Graph, *, step: Tensor | float, num_steps: int, anchor: Tensor | None = None
    ) -> Tensor:
        """K Euler steps, of which the conductances are worked out once."""
        if type(self).field is not MassDiffusion.field:
            return super().euler(x, graph, step=step, num_steps=num_steps, anchor=anchor)
        check_state(self, x, graph, channels=self.descent.channels)
        return self.descent.euler(x, self.conducting(graph), step=step, num_steps=num_steps)

    def rate(self, graph: Graph) -> Tensor | float:
        """0, or ``−ρ‖W‖²`` for slopes down to −ρ."""
        if self.descent.sigma.weak_convexity == 0:  # the constants are in the kernel: the slopes above 0 gain nothing
            return 0.0
        return lowest(self.descent.sigma, self.descent.weight_norm() ** 2)

    def max_step(self, graph: Graph) -> Tensor:
        """``2/ν``; 0 where the rate is negative."""
        return self._spectrum(graph).max_step()

    def lipschitz(self, graph: Graph, step: Tensor | float) -> Tensor:
        """``max(1 − hκ, hν − 1)``, for every step."""
        return self._spectrum(graph).lipschitz(step)

    def field_lipschitz(self, graph: Graph) -> Tensor:
        """``ν``."""
        return self._spectrum(graph).field_lipschitz()

    def smoothness(self, graph: Graph) -> Tensor:
        """``ν = s‖W‖²``, a scalar tensor."""
        largest = smoothness(self.descent.sigma, self.descent.weight_norm() ** 2)
        return torch.as_tensor(largest, dtype=graph.edge_weight.dtype, device=graph.edge_weight.device)

    def _spectrum(self, graph: Graph) -> Spectrum:
        return Spectrum(self.rate(graph), self.smoothness(graph))

    @property
    def certified(self) -> bool:
        """Whether what the gradient flow inside declares is proved."""
        return self.descent.certified

    @property
    def uniform(self) -> bool:
        """True: ``‖L_c‖ ≤ 1`` on every graph."""
        return True

    @property
    def anchor_lipschitz(self) -> float:
        """0: no anchor is read."""
        return 0.0

    def structure_lipschitz(self, graph: Graph, x: Tensor | None = None) -> float:
        r"""``0.75 √2 ‖W‖ b/ε`` with b the largest ``‖σ((F_i − F_j)W)‖`` of any two nodes.

        Along the line from A to Ã, with dots for the derivative, ``|ċ_ij| ≤ |ȧ_ij|/ε + a_ij (|ḋ_i| + |ḋ_j|)/(ε + d_i +
        d_j)²``. Summed over all i, j the second term is at most ``2 Σ_i |ḋ_i| d_i/(ε + d_i)² ≤ Σ_ij |ȧ_ij|/(2ε)``, so
        ``Σ_ij |c̃_ij − c_ij| ≤ 1.5 δ/ε``. A pair counts twice in that sum, and moves two rows by ``‖W‖b`` each.
        """
        with torch.no_grad():
            b = self.descent.force(graph, x)
            if not b.numel():
                return 0.0
            return 0.75 * math.sqrt(2) * float(self.descent.weight_norm() * b.max()) / self.epsilon

    def extra_repr(self) -> str:
        """Show ε."""
        return f"epsilon={self.epsilon}"
