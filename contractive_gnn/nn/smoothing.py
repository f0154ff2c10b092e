r"""Robust estimators of a signal on a graph, unrolled into layers: Elastic GNN and RUNG.

Both penalise differences of degree-normalised features along the edges, ``(ΔF)_ij = F_i/√d_i − F_j/√d_j`` with
``d_i = 1 + Σ_j w_ij``, by something that grows more slowly than a square, so that an edge between unlike nodes pulls
less than its share. A square would give APPNP. The edge weights enter as factors of the penalties: 0 is an absent edge,
and the layers are differentiated through everything that depends on them, degrees and reweighting included.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.deprecated import renamed
from contractive_gnn.graph import Graph
from contractive_gnn.nn.arguments import check_features, edge_list, widened
from contractive_gnn.nn.baselines import MLPClassifier


class _Differences:
    """Δ and ``F ↦ Δᵀ diag(w) F``, on both orientations of every edge; ``Δᵀ diag(w) Δ`` is I − Ã of GCN and APPNP."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.degree = 1 + graph.row_sum(graph.edge_weight)
        self.scale = self.degree.rsqrt()[:, None]

    def __call__(self, f: Tensor) -> Tensor:
        """``[n, c]`` to ``[E, c]``; zero on self-loops."""
        f = f * self.scale
        return f.index_select(0, self.graph.target) - f.index_select(0, self.graph.source)

    def adjoint(self, values: Tensor) -> Tensor:
        """``[E, c]``, of opposite sign for the two orientations of an edge, to ``[n, c]``."""
        pull = values.new_zeros(self.graph.num_nodes, values.size(1))
        return self.scale * pull.index_add(0, self.graph.target, self.graph.edge_weight[:, None] * values)

    def total(self, penalty: Tensor) -> Tensor:
        """``Σ w_ij penalty_ij`` over the undirected edges; ``penalty`` ``[E]`` counts for nothing on self-loops."""
        return self.graph.row_sum(self.graph.edge_weight * penalty).sum() / 2


class ElasticConv(nn.Module):
    r"""Elastic message passing: K primal-dual steps towards the minimiser over F of

    .. math:: λ_1 \sum_{ij} w_{ij} ‖(ΔF)_{ij}‖ + \frac{λ_2}{2} \sum_{ij} w_{ij} ‖(ΔF)_{ij}‖_2^2 + \frac12 ‖F − X‖_F^2

    from ``F = X`` and dual variables ``Z = 0`` on the edges, with ``γ = 1/(1 + λ₂)`` and ``β = 1/(2γ)``:
    ``Y = γX + (1 − γ)ÃF``, ``Z ← Π(Z + βΔ(Y − γΔᵀwZ))``, ``F ← Y − γΔᵀwZ``, where Π projects every row on the ball of
    radius λ₁ of the dual norm. It converges whatever K; with ``λ₁ = 0`` every step is one of APPNP with teleport γ.

    Liu et al., *Elastic Graph Neural Networks* (ICML 2021), there for ``w = 1``. Other weights are the same algorithm
    in the variables ``√w Z``, so its step sizes stay admissible, and an absent edge has a gradient.

    Args:
        num_steps: K ≥ 1.
        lambda1: λ₁ ≥ 0, of the robust part.
        lambda2: λ₂ ≥ 0, of the smooth part.
        norm: ``"l21"``, the Euclidean norm of a row of ΔF, or ``"l1"``, the sum of its absolute values.

    Shapes:
        ``x`` ``[n, c]``, ``edge_index`` ``[2, E]`` (both orientations) or a sparse ``[n, n]`` matrix, ``edge_weight``
        ``[E]`` (differentiable), output ``[n, c]``.

    Raises:
        ValueError: for an option out of its range.
    """

    def __init__(
        self,
        *,
        num_steps: int = 10,
        lambda1: float = 3.0,
        lambda2: float = 3.0,
        norm: Literal["l21", "l1"] = "l21",
    ) -> None:
        super().__init__()
        check_whole("num_steps", num_steps, least=1)
        check_real("lambda1", lambda1, least=0)
        check_real("lambda2", lambda2, least=0)
        if norm not in ("l21", "l1"):
            raise ValueError(f"norm must be 'l21' or 'l1', got {norm!r}")
        self.num_steps = num_steps
        self.lambda1 = lambda1
        self.lambda2 = lambda2
        self.norm = norm

    def objective(self, f: Tensor, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """What ``f`` ``[n, c]`` is to minimise for the input ``x`` ``[n, c]``, a scalar."""
        differences = _Differences(Graph.of(x, edge_index, edge_weight))
        rows = differences(f)
        length = torch.linalg.vector_norm(rows, ord=2 if self.norm == "l21" else 1, dim=1)
        robust, smooth = differences.total(length), differences.total(rows.square().sum(dim=1))
        return self.lambda1 * robust + self.lambda2 / 2 * smooth + (f - x).square().sum() / 2

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """The signal after K steps, ``[n, c]``."""
        check_features(x, self)
        dtype, x = x.dtype, widened(x)
        differences = _Differences(Graph.of(x, *edge_list(x, edge_index, edge_weight)))
        gamma = 1 / (1 + self.lambda2)
        f, dual, pull = x, torch.zeros_like(x[:1]), torch.zeros_like(x)
        for _ in range(self.num_steps):
            smooth = gamma * x + (1 - gamma) * (f - differences.adjoint(differences(f)))
            if self.lambda1 > 0:
                dual = self._project(dual + differences(smooth - gamma * pull) / (2 * gamma))
                pull = differences.adjoint(dual)
            f = smooth - gamma * pull
        return f.to(dtype)

    def _project(self, dual: Tensor) -> Tensor:
        if self.norm == "l1":
            return dual.clamp(-self.lambda1, self.lambda1)
        still = (dual == 0).all(dim=1, keepdim=True)  # where the norm has no derivative, as on a self-loop
        length: Tensor = torch.linalg.vector_norm(torch.where(still, 1.0, dual), dim=1, keepdim=True)
        return dual * (self.lambda1 / length.masked_fill(still, 0.0).clamp(min=self.lambda1))

    def extra_repr(self) -> str:
        """Show the options."""
        return f"num_steps={self.num_steps}, lambda1={self.lambda1}, lambda2={self.lambda2}, norm={self.norm!r}"


class RUNGConv(nn.Module):
    r"""Robust unbiased aggregation: K quasi-Newton steps of iteratively reweighted least squares that decrease

    .. math:: \sum_{ij} w_{ij}\, ρ_γ\bigl(\sqrt{‖(ΔF)_{ij}‖_2^2 + ε}\bigr) + λ ‖F − X‖_F^2, \qquad λ = α/(1 − α),

    with the minimax concave penalty ``ρ_γ(y) = y − y²/(2γ)`` up to γ and the constant γ/2 beyond. It is concave in
    ``y²``, so with ``W = dρ/dy² = max(0, 1/(2y) − 1/(2γ))`` the weighted squares lie above it, and one step on them,
    from ``F = X``,

    .. math:: F ← (\mathrm{diag}(q) + λ)^{-1} \bigl((W ⊙ Ã) F + λX\bigr), \qquad q_i = \sum_j W_{ij} w_{ij} / d_i

    (the entries of Ã on the diagonal left out), never increases the objective. An edge whose difference exceeds γ is
    ignored. ``γ = ∞`` penalises by ℓ1. Squares, to which a large ε comes near, would have the fixed point of APPNP with
    teleport α.

    Hou et al., *Robust Graph Neural Networks via Unbiased Aggregation* (NeurIPS 2024), whose ``λ̂`` is ``1 − α``. Their
    code, which has the ε too, does not differentiate W; here the gradient is that of the whole layer, or an attacker
    would be misled.

    Args:
        num_steps: K ≥ 1.
        alpha: α in (0, 1), the weight of the input.
        gamma: γ > 0, possibly ∞.
        epsilon: ε > 0, which bounds W and its slope.

    Shapes:
        ``x`` ``[n, c]``, ``edge_index`` ``[2, E]`` (both orientations) or a sparse ``[n, n]`` matrix, ``edge_weight``
        ``[E]`` (differentiable), output ``[n, c]``.

    Raises:
        ValueError: for an option out of its range.
    """

    def __init__(self, *, num_steps: int = 10, alpha: float = 0.1, gamma: float = 3.0, epsilon: float = 0.01) -> None:
        super().__init__()
        check_whole("num_steps", num_steps, least=1)
        check_real("alpha", alpha, above=0, below=1)
        if gamma != math.inf:
            check_real("gamma", gamma, above=0)
        check_real("epsilon", epsilon, above=0)
        self.num_steps = num_steps
        self.alpha = alpha
        self.gamma = gamma
        self.epsilon = epsilon

    @property
    def fidelity(self) -> float:
        """λ."""
        return self.alpha / (1 - self.alpha)

    def objective(self, f: Tensor, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """What ``f`` ``[n, c]`` is to minimise for the input ``x`` ``[n, c]``, a scalar."""
        differences = _Differences(Graph.of(x, edge_index, edge_weight))
        length = self._length(differences(f)).clamp(max=self.gamma)
        return differences.total(length - length.square() / (2 * self.gamma)) + self.fidelity * (f - x).square().sum()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """The signal after K steps, ``[n, c]``."""
        check_features(x, self)
        dtype, x = x.dtype, widened(x)
        graph = Graph.of(x, *edge_list(x, edge_index, edge_weight))
        differences = _Differences(graph)
        f = x
        for _ in range(self.num_steps):
            rows = differences(f)
            trust = (1 / self._length(rows) - 1 / self.gamma).clamp(min=0) / 2
            slope = differences.adjoint(trust[:, None] * rows) + self.fidelity * (f - x)
            curvature = graph.row_sum(graph.edge_weight * trust) / differences.degree + self.fidelity
            f = f - slope / curvature[:, None]
        return f.to(dtype)

    def _length(self, rows: Tensor) -> Tensor:
        return (rows.square().sum(dim=1) + self.epsilon).sqrt()

    def extra_repr(self) -> str:
        """Show the options."""
        return f"num_steps={self.num_steps}, alpha={self.alpha}, gamma={self.gamma}, epsilon={self.epsilon}"


@renamed(hidden="hidden_channels", num_steps="num_layers")
class ElasticGNN(MLPClassifier):
    """MLP, then elastic message passing on the class scores: see :class:`ElasticConv`.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden_channels: width.
        num_layers: see :class:`ElasticConv`.
        lambda1: see :class:`ElasticConv`.
        lambda2: see :class:`ElasticConv`.
        norm: see :class:`ElasticConv`.
        dropout: probability of dropping a feature, and a hidden unit.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or ``sparse_csr``, output ``[n, out_channels]``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 10,
        lambda1: float = 3.0,
        lambda2: float = 3.0,
        norm: Literal["l21", "l1"] = "l21",
        dropout: float = 0.5,
    ) -> None:
        super().__init__(in_channels, out_channels, hidden_channels=hidden_channels, dropout=dropout)
        check_whole("num_layers", num_layers, least=1)
        self.conv = ElasticConv(num_steps=num_layers, lambda1=lambda1, lambda2=lambda2, norm=norm)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores."""
        return self.conv(super().forward(x, edge_index), edge_index, edge_weight)  # type: ignore[no-any-return]


@renamed(hidden="hidden_channels", num_steps="num_layers")
class RUNG(MLPClassifier):
    """MLP, then robust unbiased aggregation of the class scores: see :class:`RUNGConv`.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden_channels: width.
        num_layers: see :class:`RUNGConv`.
        alpha: see :class:`RUNGConv`.
        gamma: see :class:`RUNGConv`; None for ∞, the model that its authors call RUNG-ℓ1.
        epsilon: see :class:`RUNGConv`.
        dropout: probability of dropping a feature, and a hidden unit.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or ``sparse_csr``, output ``[n, out_channels]``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 10,
        alpha: float = 0.1,
        gamma: float | None = 3.0,
        epsilon: float = 0.01,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(in_channels, out_channels, hidden_channels=hidden_channels, dropout=dropout)
        gamma = math.inf if gamma is None else gamma
        check_whole("num_layers", num_layers, least=1)
        self.conv = RUNGConv(num_steps=num_layers, alpha=alpha, gamma=gamma, epsilon=epsilon)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores."""
        return self.conv(super().forward(x, edge_index), edge_index, edge_weight)  # type: ignore[no-any-return]
