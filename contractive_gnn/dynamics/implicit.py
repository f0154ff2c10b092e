r"""The implicit network of Jafarpour et al. as a flow to its fixed point, with messages between nodes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from contractive_gnn import activations
from contractive_gnn.activations import Activation, LeakyReLU
from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.deprecated import renamed
from contractive_gnn.dynamics.base import Dynamics, check_state
from contractive_gnn.graph import Graph
from contractive_gnn.seeding import drawing


@renamed(sigma="activation")
class ImplicitFlow(Dynamics):
    r"""A flow whose one equilibrium solves ``x = σ(xAᵀ + PxCᵀ + u)``: an implicit network that is well-posed.

    .. math::
        \dot x_i = -x_i + \sigma\Big(A x_i + C \sum_j p_{ij} x_j + u_i\Big),
        \qquad p_{ij} = \frac{a_{ij}}{1 + \sum_k a_{ik}}

    The anchor is the input u. For σ with slopes in [0, 1] and ``γ = max_c (A_cc + Σ_{d≠c}|A_cd| + Σ_d|C_cd|)``, which
    is at least the matrix measure ``μ_∞`` of the linear part, the field contracts in ℓ∞ at ``κ = 1 − max(0, γ)``, for
    Euler steps ``h ≤ 1/(1 + max_c(−A_cc)₊)``. For γ < 1 the equilibrium exists, is unique and is ``1/κ``-Lipschitz in u
    (Jafarpour, Davydov, Proskurnikov, Bullo, *Robust Implicit Networks via Non-Euclidean Contractions*, NeurIPS 2021;
    ``C = 0`` is their network). Well-posedness asks ``μ_∞ < 1`` only, not ``‖·‖_∞ < 1``: A may be
    strongly negative on its diagonal.

    A and C are learned freely and stay inside the condition: ``A = T − diag(Σ_d|T_cd| + Σ_d|C_cd|) + γ̄ I``, their
    parametrisation, has ``γ ≤ γ̄``.

    Args:
        channels: number of feature channels c.
        activation: σ, an elementwise :class:`Activation` with slopes in [0, 1], or its name.
        gamma: ``γ̄ < 1``; 0 or less gives the fastest rate, 1.
        threshold: λ of a named σ.

    Shapes:
        state and anchor ``[n, c]``, edge weights ``[E]``, not negative.

    Raises:
        ValueError: for γ̄ ≥ 1, a group activation or slopes outside [0, 1].
    """

    norm = "linf"

    def __init__(
        self,
        channels: int,
        *,
        activation: str | Activation | None = None,
        gamma: float = 0.5,
        threshold: float | None = None,
    ) -> None:
        super().__init__()
        check_whole("channels", channels, least=1)
        check_real("gamma", gamma, below=1)  # or the equilibrium is not unique
        if activation is None and threshold is not None:
            raise ValueError(
                f"threshold is for an activation given by name: give activation too, got threshold={threshold!r}"
            )
        named = activations.activation
        self.sigma = LeakyReLU(0.1) if activation is None else named(activation, threshold=threshold)
        if self.sigma.group or self.sigma.slopes[0] < 0 or self.sigma.slopes[1] > 1:
            raise ValueError(
                f"the implicit network needs an elementwise activation with slopes in [0, 1], got {self.sigma} with "
                f"slopes {self.sigma.slopes}"
            )
        self.channels = channels
        self.gamma = float(gamma)
        self.own_weight = nn.Parameter(torch.empty(channels, channels))
        self.neighbour_weight = nn.Parameter(torch.empty(channels, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw T and C uniformly in ``±1/c``."""
        super().reset_parameters()
        with drawing():
            for weight in (self.own_weight, self.neighbour_weight):
                nn.init.uniform_(weight, -1.0 / self.channels, 1.0 / self.channels)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """A and C, both ``[c, c]``."""
        used = self.own_weight.abs().sum(dim=1) + self.neighbour_weight.abs().sum(dim=1)
        return self.own_weight + torch.diag(self.gamma - used), self.neighbour_weight

    def measure_bound(self) -> Tensor:
        """``γ = max_c (A_cc + Σ_{d≠c}|A_cd| + Σ_d|C_cd|)``, a scalar tensor; at most γ̄ up to rounding."""
        own, neighbours = self.matrices()
        others = own.abs().sum(dim=1) - own.diagonal().abs()
        return (own.diagonal() + others + neighbours.abs().sum(dim=1)).max()

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate the right-hand side of the class's equation; shape ``[n, c]``."""
        check_state(self, x, graph, channels=self.channels)
        own, neighbours = (matrix.to(x.dtype) for matrix in self.matrices())
        argument = x @ own.t() + self._mean(x, graph) @ neighbours.t()
        return self.sigma(argument if anchor is None else argument + anchor) - x  # type: ignore[no-any-return]

    def _mean(self, x: Tensor, graph: Graph) -> Tensor:
        """``Σ_j p_ij x_j``."""
        weight = graph.edge_weight.masked_fill(graph.source == graph.target, 0.0)
        p = weight / (1.0 + graph.row_sum(weight))[graph.target]
        return torch.zeros_like(x).index_add(0, graph.target, p.unsqueeze(-1) * x[graph.source])

    def rate(self, graph: Graph) -> Tensor:
        """``1 − max(0, γ)``."""
        return 1.0 - self.measure_bound().clamp(min=0.0)

    def max_step(self, graph: Graph) -> Tensor:
        """``1/(1 + max_c(−A_cc)₊)``."""
        own, _ = self.matrices()
        return 1.0 / (1.0 + (-own.diagonal()).clamp(min=0.0).max())

    @property
    def uniform(self) -> bool:
        """True: every row of p sums to less than 1."""
        return True

    @property
    def anchor_lipschitz(self) -> float:
        """1: u stands inside σ."""
        return 1.0

    def structure_lipschitz(self, graph: Graph, x: Tensor | None = None) -> float:
        """``‖C‖_∞ max|x| / (1 + min_i d_i)`` at a given state; see :meth:`Diffusion.structure_lipschitz`."""
        if x is None:
            return super().structure_lipschitz(graph, x)
        if x.numel() == 0:
            return 0.0
        with torch.no_grad():
            largest = float(self.neighbour_weight.abs().sum(dim=1).max() * x.abs().max())
            return largest / (1.0 + float(graph.row_sum(graph.edge_weight).min()))

    def structure_saturation(self, graph: Graph, x: Tensor | None = None) -> tuple[float, float]:
        """``s = 2 sup|σ|``, and at a state ``max_i Σ_d |C_cd| w_id`` if that is less.

        A node's mean ``Σ_j p_ij x_j`` lies between the smallest and the largest entry of its column, or 0: it moves by
        at most w from where it is.
        """
        limit = 2.0 * self.sigma.bound
        if x is None:
            return math.inf, limit
        if x.numel() == 0:
            return math.inf, 0.0
        with torch.no_grad():
            mean = self._mean(x, graph)
            far = torch.maximum(x.amax(dim=0).clamp(min=0.0) - mean, mean - x.amin(dim=0).clamp(max=0.0))
            return math.inf, min(limit, float((far @ self.neighbour_weight.abs().t()).max()))
