r"""Gradient flows of the edge differences of a graph, contracting in ℓ2."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from contractive_gnn import activations
from contractive_gnn.activations import Activation
from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.compiled import kernels
from contractive_gnn.compiled.degrees import over_degrees
from contractive_gnn.deprecated import renamed
from contractive_gnn.dynamics.base import (
    Dynamics,
    OnGraph,
    check_state,
    methods,
    passes_plainly,
    pull_limit,
    spread,
)
from contractive_gnn.dynamics.gradient_flow import GradientFlow
from contractive_gnn.dynamics.spectrum import Spectrum, lowest, smoothness
from contractive_gnn.graph import Graph
from contractive_gnn.operators import Composition, Dense, GraphGradient, Operator
from contractive_gnn.seeding import drawing

Placement = Literal["inside", "outside"]
Normalization = Literal["none", "sym", "degree"]


@renamed(sigma="activation", weight="learn_weight")
class GraphGradientFlow(Dynamics, MessagePassing):  # type: ignore[misc]
    r"""Gradient flow of a convex potential of edge differences.

    With edge weights inside σ (the published CSGNN) and outside it:

    .. math::
        \dot F_i = -\sum_j a_{ij}\,\sigma(a_{ij}(F_i - F_j) W) W^\top - \mu (F_i - F^0_i)
        \qquad
        \dot F_i = -\sum_j a_{ij}\,\sigma((F_i - F_j) W) W^\top - \mu (F_i - F^0_i)

    The right-hand side is minus the gradient of a convex potential whose smoothness is at most
    ``ν = s_max ‖W‖₂² ‖G‖²``, so an Euler step of length ``h ≤ 2/(ν + 2μ)`` contracts by ``1 − hμ`` in ``‖·‖_F``
    (Celledoni et al., SISC 2023, Thm 2.3; Sherry et al. 2023, Prop. 3). ``‖G‖²`` is the largest eigenvalue of the
    Laplacian with weights ``a_ij²`` (inside) or ``a_ij`` (outside), bounded here by twice the largest degree. (The sum
    of the degrees at the ends of an edge, Anderson and Morley 1985, is less on a star, but jumps when a pair of weight
    0 is listed: the step would then tell an attacker's candidates from absent pairs.) The printed condition of the
    paper, ``h ≤ 2/‖W‖₂²``, lacks ‖G‖².

    A redescending σ, slopes down to ``−ρ``, makes the potential weakly convex: the rate is ``μ − ρ‖W‖²‖G‖²``.

    Divided by the degrees on one side, with W = I and an elementwise σ, it is a random-walk diffusion and all of this
    holds in ℓ∞ too, with the same rate and the same step (see :class:`~contractive_gnn.dynamics.Diffusion`). That norm
    is declared then: it does not depend on the graph.

    Outside, the field is linear in ``a_ij``, so the gradient with respect to an absent edge is neither 0 nor infinite;
    inside, it vanishes at ``a_ij = 0`` and a white-box attacker sees nothing (gradient masking).

    Args:
        channels: number of feature channels c.
        activation: σ, an :class:`Activation` or its name; only its odd part acts on an undirected graph.
        placement: where the edge weights stand, ``"inside"`` or ``"outside"`` σ (the
            claims need ``a_ij ≥ 0`` outside).
        normalization: ``"none"``; ``"sym"``: differences of ``F_i/√d_i``, ‖G‖² ≤ 2; ``"degree"``: the gradient is
            divided by ``d_i`` at node i, ‖G‖² ≤ 2 in the norm that weights node i by ``d_i`` (or in ℓ∞, see above).
            Degrees are those of the weights in the potential (``a²`` inside), plus ``epsilon``.
        mu: strength μ ≥ 0 of the pull towards the anchor.
        learn_weight: learn W (``[c, c]``, starts near the identity); False sets W = I.
        epsilon: ε > 0, added to every degree.

    Shapes:
        state ``[n, c]``, edge weights ``[E]``.

    Raises:
        ValueError: for an unknown name or a negative μ; (called) for a state of another shape.
        TypeError: for a ``learn_weight`` that is neither True nor False.
    """

    norm = "l2"

    def __init__(
        self,
        channels: int,
        *,
        activation: str | Activation = "tanh",
        placement: Placement = "outside",
        normalization: Normalization = "sym",
        mu: float = 0.0,
        learn_weight: bool = True,
        epsilon: float = 1.0,
    ) -> None:
        super().__init__(aggr="sum")
        if placement not in ("inside", "outside"):
            raise ValueError(f"placement must be 'inside' or 'outside', got {placement!r}")
        if normalization not in ("none", "sym", "degree"):
            raise ValueError(f"normalization must be 'none', 'sym' or 'degree', got {normalization!r}")
        check_whole("channels", channels, least=1)
        if not isinstance(learn_weight, bool):
            raise TypeError(
                f"learn_weight says whether a matrix W is learned, True or False, got {type(learn_weight).__name__}; "
                "operators are for GradientFlow(operator, activation)"
            )
        check_real("mu", mu, least=0)
        check_real("epsilon", epsilon, above=0)
        self.channels = channels
        self.sigma = activations.activation(activation)
        self.placement = placement
        self.normalization = normalization
        self.mu = float(mu)
        self.epsilon = float(epsilon)
        self.weight = nn.Parameter(torch.empty(channels, channels)) if learn_weight else None
        if normalization == "degree":
            self.norm = "l2-degree" if learn_weight or self.sigma.group else "linf"
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W = I + uniform noise of size 1/c."""
        Dynamics.reset_parameters(self)
        if self.weight is not None:
            with torch.no_grad(), drawing():
                self.weight.uniform_(-1.0 / self.channels, 1.0 / self.channels)
                self.weight.diagonal().add_(1.0)

    def degree(self, graph: Graph) -> Tensor:
        """Degrees of the weights in the potential plus ε, ``[n]``."""
        return self._weight_sum(graph) + self.epsilon

    def _weight_sum(self, graph: Graph) -> Tensor:
        a = graph.edge_weight
        return graph.row_sum(a.square() if self.placement == "inside" else a)

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate the right-hand side of the class's equation; shape ``[n, c]``."""
        check_state(self, x, graph, channels=self.channels)
        w = None if self.weight is None else self.weight.to(x.dtype)  # the state of a model in half precision is not
        z = x if w is None else x @ w
        if self.normalization == "sym":
            scale = self.degree(graph).rsqrt().unsqueeze(-1)
            z = z * scale
        if graph.serves(z) and kernels.available(self.sigma, z) and passes_plainly(self, _OWN):
            force = kernels.flow(z, graph.edge_weight, graph.edge_index, self.sigma, scale=self._scale(graph))
        else:
            weight = graph.edge_weight.unsqueeze(-1)
            size = (x.size(0), x.size(0))  # len(x) would be a constant to torch.export
            force = -self.propagate(graph.edge_index, z=z, a=weight, size=size)  # type: ignore[operator]
        if self.normalization == "sym":
            force = force * scale
        elif self.normalization == "degree":
            force = force / self.degree(graph).unsqueeze(-1)
        if w is not None:
            force = force @ w.t()
        return force - self.mu * (x if anchor is None else x - anchor) if self.mu else force

    def euler(
        self, x: Tensor, graph: Graph, *, step: Tensor | float, num_steps: int, anchor: Tensor | None = None
    ) -> Tensor:
        """K Euler steps, compiled in one where W = I and the sum over the edges is compiled.

        In ``y = d^-½ x`` the symmetrically normalised flow is divided by the degrees at one side, like the other one.
        """
        check_state(self, x, graph, channels=self.channels)
        if not (graph.serves(x) and kernels.fixed(step, self.mu) and self.compiled(x, anchor)):
            return super().euler(x, graph, step=step, num_steps=num_steps, anchor=anchor)
        p, root = graph.edge_weight, None
        if anchor is x and not p.requires_grad and not p.any():
            return x.clone()  # no edge pulls, and the fidelity rests at its anchor
        own = type(self).degree is not _DEGREE or "degree" in vars(self)
        if self.normalization == "degree" and self.placement == "outside" and not own:
            p = over_degrees(graph, self.epsilon)
        elif self.normalization != "none":
            degree = self.degree(graph)
            p = p / degree[graph.target]
            root = degree.sqrt().unsqueeze(-1) if self.normalization == "sym" else None
        y = x if root is None else x / root
        if anchor is x:
            anchor = y
        elif anchor is not None and root is not None:
            anchor = anchor / root
        y = kernels.euler(
            y,
            p,
            graph.edge_index,
            self.sigma,
            step=step,
            mu=self.mu,
            num_steps=num_steps,
            anchor=anchor,
            scale=self._scale(graph),
        )
        return y if root is None else y * root

    def compiled(self, x: Tensor, *others: Tensor | None) -> bool:
        """Whether :meth:`euler` is one compiled loop for such tensors: of an edge it then reads the weight alone."""
        return self.weight is None and kernels.available(self.sigma, x, *others) and passes_plainly(self, _OWN_EULER)

    def _scale(self, graph: Graph) -> Tensor | None:
        """The weights inside σ."""
        return graph.edge_weight if self.placement == "inside" else None

    def message(self, z_i: Tensor, z_j: Tensor, a: Tensor) -> Tensor:
        """The force along one edge, ``a σ(a (z_i − z_j))`` or ``a σ(z_i − z_j)``."""
        d = z_i - z_j
        return a * self.sigma.antisymmetric(a * d if self.placement == "inside" else d)

    def gradient_norm_squared(self, graph: Graph) -> Tensor:
        """A certified upper bound of ‖G‖² in :attr:`norm`: 2 when normalised, else twice the largest degree."""
        if self.normalization != "none" or graph.edge_weight.numel() == 0:
            return graph.edge_weight.new_tensor(2.0)
        return 2.0 * self._weight_sum(graph).max()

    def weight_norm(self) -> Tensor | float:
        """An upper bound of ‖W‖₂: the largest singular value, plus the rounding error of the decomposition."""
        if self.weight is None:
            return 1.0
        weight = self.weight if self.weight.dtype == torch.float64 else self.weight.float()
        norm: Tensor = torch.linalg.matrix_norm(weight, 2)
        return (1.0 + 4 * self.channels * torch.finfo(weight.dtype).eps) * norm

    def smoothness(self, graph: Graph) -> Tensor:
        """``ν = s_max ‖W‖₂² ‖G‖²`` of the potential without its fidelity term."""
        return smoothness(self.sigma, self.weight_norm() ** 2, self.gradient_norm_squared(graph))  # type: ignore[return-value]

    def rate(self, graph: Graph) -> Tensor | float:
        """``μ − max(0, −s_min) ‖W‖² ‖G‖²``: μ for a monotone σ, less for a redescending one."""
        if self.sigma.weak_convexity == 0:  # G has the constants in its kernel: the slopes above 0 gain nothing
            return self.mu
        return self.mu + lowest(self.sigma, self.weight_norm() ** 2, self.gradient_norm_squared(graph))

    def max_step(self, graph: Graph) -> Tensor:
        """``2/(ν + μ + κ)``; 0 where the rate κ is negative: a redescending σ that the fidelity does not outweigh.

        On a graph without edges every step will do; a large one is returned.
        """
        largest = self.smoothness(graph) + self.mu
        return Spectrum(self.rate(graph), largest).max_step()

    def lipschitz(self, graph: Graph, step: Tensor | float) -> Tensor | float:
        """``max(1 − hκ, h(ν + μ) − 1)``, for every step: the eigenvalues of −DX lie in ``[κ, ν + μ]``."""
        return Spectrum(self.rate(graph), self.smoothness(graph) + self.mu).lipschitz(step)

    def field_lipschitz(self, graph: Graph) -> Tensor:
        """``ν + μ``."""
        return Spectrum(self.rate(graph), self.smoothness(graph) + self.mu).field_lipschitz()

    def on(self, graph: Graph, anchor: Tensor | None = None) -> GradientFlowOnGraph:
        """The field on one graph, see :meth:`Dynamics.on`; it is a gradient flow of an operator, and knows which."""
        return GradientFlowOnGraph(self, graph, anchor)

    def operator(self, graph: Graph) -> Operator:
        """``F ↦ G F W``: the flow is ``−A*σ(AF)`` with this A, whose rows are the undirected edges."""
        gradient = GraphGradient(graph, self.normalization, placement=self.placement, epsilon=self.epsilon)
        return gradient if self.weight is None else Composition(gradient, Dense(self.weight.t()))

    def gradient_flow(self, graph: Graph, anchor: Tensor | None = None) -> GradientFlow:
        """The same field, with the same constants, as the gradient flow of :meth:`operator`, without a kernel."""
        root = None
        if self.placement == "outside":
            once = graph.source < graph.target
            root = graph.edge_weight[once].sqrt().unsqueeze(-1)
        return GradientFlow(self.operator(graph), EdgeActivation(self.sigma, root), mu=self.mu, anchor=anchor)

    @property
    def uniform(self) -> bool:
        """Whether it is normalised: ‖G‖² ≤ 2 then on every graph."""
        return self.normalization != "none"

    @property
    def anchor_lipschitz(self) -> float:
        """``μ``."""
        return self.mu

    def norm_weight(self, graph: Graph) -> Tensor | None:
        """The degrees, where :attr:`norm` is ``"l2-degree"``."""
        return self.degree(graph) if self.norm == "l2-degree" else None

    def structure_lipschitz(self, graph: Graph, x: Tensor | None = None) -> float:
        r"""The field's Lipschitz constant in A, for edge weights outside σ.

        Let b be the largest ``‖σ(d)‖`` of a row difference d (:meth:`force`), r_i the change of node i's weights,
        ``Σ r_i = δ = Σ|ã_ij − a_ij|``; A and Ã are symmetric, so ``r_i ≤ δ/2`` and ``(Σ r_i²)^½ ≤ δ/√2``.

        * ``none``: the field is linear in A, ``‖W‖ b/√2``.
        * ``degree``: with ``p_ij = a_ij/(d_i + ε)``, ``Σ_j |p̃_ij − p_ij| ≤ 2r_i/(max(d_i, d̃_i) + ε)``; in ℓ∞
          ``max_i b_i/(d_i + ε)``, in ℓ2-degree ``√2 ‖W‖ max_i b_i/(d_i + ε)^½``.
        * ``sym``: ``S = diag(d + ε)^-½`` stands on both sides of ``Bᵀ[a σ(BSFW)]Wᵀ``. Moving one pair by 1 along the
          way from A to Ã changes the force on it, ``√2 ‖W‖ b/√ε``; the left S, half of that; and the right S,
          ``2 s_max ‖W‖² · max_i ‖F_i‖/(√2 ε)``, which no bound of σ limits: known at a given state only. Half of
          their sum, since a pair counts twice in δ.

        Inside σ nothing is claimed.
        """
        if self.placement == "inside":
            return math.inf
        with torch.no_grad():
            weight_norm, largest = float(self.weight_norm()), max(abs(s) for s in self.sigma.slopes)
            if self.normalization == "sym":
                if x is None:
                    return math.inf
                reach = float(torch.linalg.vector_norm(x, dim=1).max()) if x.numel() else 0.0
                # Scaled by degrees that no one knows yet: two rows differ by at most 2 max‖F_i‖/√ε.
                b = min(self.force_bound, largest * weight_norm * 2 * reach / math.sqrt(self.epsilon))
                direct = math.sqrt(2) * 1.5 * weight_norm * b / math.sqrt(self.epsilon)
                return (direct + math.sqrt(2) * largest * weight_norm**2 * reach / self.epsilon) / 2
            b_i = self.force(graph, x)
            if self.normalization == "none":
                return float(weight_norm * b_i.max() / math.sqrt(2)) if b_i.numel() else 0.0
            degree = self.degree(graph)
            if self.norm == "linf":
                return float((b_i / degree).max()) if b_i.numel() else 0.0
            return float(math.sqrt(2) * weight_norm * (b_i / degree.sqrt()).max()) if b_i.numel() else 0.0

    def structure_saturation(self, graph: Graph, x: Tensor | None = None) -> tuple[float, float]:
        r"""Where the flow is divided by the degrees on one side, with edge weights outside σ; else nothing is known.

        ``Σ_j |p̃_ij − p_ij|`` is at most ``2r_i/(d_i + ε)``, as above, and less than ``1 + t_i``, ``t_i = d_i/(d_i +
        ε)``. In ℓ∞ that is ``s = max_i b_i (1 + t_i)``, or at a state
        :func:`~contractive_gnn.dynamics.base.pull_limit`. In ℓ2-degree the square of the change is at most
        ``‖W‖² b² Σ_i (d_i + ε) min(2r_i/(d_i + ε), 1 + t_i)²``: by ``min(u, v)² ≤ uv`` and ``Σ r_i = δ``, ``r = 2 ‖W‖
        b``, and ``s = ‖W‖ b (Σ_i (d_i + ε)(1 + t_i)²)^½``.
        """
        if self.placement == "inside" or self.normalization != "degree":
            return math.inf, math.inf
        if graph.num_nodes == 0:
            return math.inf, 0.0
        with torch.no_grad():
            if self.norm == "linf" and x is not None and x.numel():
                return math.inf, pull_limit(x, -self.field(x, graph, anchor=x), self.sigma)
            degree = self.degree(graph)
            both = 2.0 - self.epsilon / degree
            if self.norm == "linf":
                return math.inf, self.force_bound * float(both.max())
            force = float(self.weight_norm()) * float(self.force(graph, x).max())
            return 2.0 * force, force * float((degree * both.square()).sum().sqrt())

    @property
    def force_bound(self) -> float:
        """``sup ‖σ(d)‖`` of a row d: the largest entry in ℓ∞, else the Euclidean norm."""
        rows = self.norm != "linf" and not self.sigma.group
        return self.sigma.bound * (math.sqrt(self.channels) if rows else 1.0)

    def force(self, graph: Graph, x: Tensor | None) -> Tensor:
        """A bound of ``‖σ((F_i − F_j)W)‖`` over *all* nodes j, ``[n]``: ``min(sup‖σ‖, s ‖(F_i − F_j)W‖)``."""
        bound = graph.edge_weight.new_full((graph.num_nodes,), self.force_bound)
        if x is None or x.numel() == 0:
            return bound
        z = x if self.weight is None else x @ self.weight
        far = torch.linalg.vector_norm(spread(z), math.inf if self.norm == "linf" else 2, dim=1)
        return torch.minimum(bound, max(abs(s) for s in self.sigma.slopes) * far)


GradientFlow._of_channels = GraphGradientFlow


class GradientFlowOnGraph(OnGraph):
    """A gradient flow on one graph: its kernel evaluates it, and its operator is built for whom it is asked.

    Attributes:
        dynamics: the flow.
    """

    dynamics: GraphGradientFlow

    @property
    def operator(self) -> Operator:
        """See :meth:`GraphGradientFlow.operator`."""
        return self.dynamics.operator(self.graph)

    def gradient_flow(self) -> GradientFlow:
        """The same field as ``GradientFlow(operator, σ)``."""
        return self.dynamics.gradient_flow(self.graph, self.anchor)


class EdgeActivation(Activation):
    r"""σ as the rows of :meth:`GraphGradientFlow.operator` see it: ``√a σ(d/√a)``, with σ's odd part.

    There the row of an edge is ``√a (z_i − z_j)`` where the weights stand outside σ, so that ``Gᵀ`` of this is
    ``a σ(z_i − z_j)``. The derivative is that of σ at another place, row by row: the slopes are the same.

    Args:
        sigma: σ.
        root: ``√a``, ``[m, 1]``; None for 1.
    """

    def __init__(self, sigma: Activation, root: Tensor | None) -> None:
        super().__init__()
        self.sigma = sigma
        self.slopes = sigma.slopes
        self.group = sigma.group
        self.register_buffer("root", root, persistent=False)

    root: Tensor | None

    def forward(self, d: Tensor) -> Tensor:
        """Apply it to the rows of the edges, ``[..., m, c]``."""
        if self.root is None:
            return self.sigma.antisymmetric(d)
        return self.root * self.sigma.antisymmetric(d / self.root.masked_fill(self.root == 0, 1.0))

    def potential(self, d: Tensor) -> Tensor:
        """``a φ(d/√a)``, φ the even part of σ's potential."""
        scaled = d if self.root is None else d / self.root.masked_fill(self.root == 0, 1.0)
        value = self.sigma.potential(scaled)
        if not self.sigma.odd:
            value = (value + self.sigma.potential(-scaled)) / 2
        if self.root is None:
            return value
        weight = self.root.square()
        return (weight.squeeze(-1) if self.group else weight) * value


_DEGREE = GraphGradientFlow.degree
_OWN, _OWN_EULER = methods(GraphGradientFlow, "message"), methods(GraphGradientFlow, "message", "field")
