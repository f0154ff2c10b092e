r"""Features and adjacency as one contracting system."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from contractive_gnn.checks import check_real
from contractive_gnn.dynamics.adjacency import AdjacencyFlow
from contractive_gnn.dynamics.base import Dynamics
from contractive_gnn.graph import Graph
from contractive_gnn.norms import L1, LInf, Sum, number


class CoupledFlow(Dynamics):
    r"""Features that flow on an adjacency matrix that itself flows: the coupled system, on dense matrices.

    .. math::
        \dot F = X(F; A), \qquad \dot A = Y(A)

    It is a cascade. Let ``‖X(F; Ã) − X(F; A)‖ ≤ L ‖Ã − A‖₁`` for all F, A, Ã; let X contract at κ_F for every A, and Y
    at κ_A. Then the whole contracts in ``‖F‖ + ω‖A‖₁`` at ``κ = min(κ_F, κ_A − L/ω)``, and an Euler step is
    ``max(q_F, q_A + hL/ω)``-Lipschitz. Two lines prove it: ``‖δF⁺‖ ≤ q_F‖δF‖ + hL‖δA‖₁`` and
    ``‖δA⁺‖₁ ≤ q_A‖δA‖₁``; add ω times the second to the first. This is the reference that
    :class:`~contractive_gnn.nn.CSGNN` is the ``O(|E| + n)`` form of; there A is read on the given edges only.

    Args:
        features: a certified, uniform field in ℓ∞ that is Lipschitz in A uniformly over its states (a bounded σ), with
            the largest constant on the graph without edges.
        adjacency: a flow that is certified in vec-ℓ1, with ``κ_A > 0`` where ``scale`` is None.
        scale: ω; None for ``2L/κ_A``.

    Shapes:
        state ``[n, c + n]``: ``(F | A)``.

    Raises:
        ValueError: for fields for which nothing is proved.
    """

    norm = "linf + vec-l1"
    on_features = False

    def __init__(self, features: Dynamics, adjacency: AdjacencyFlow, *, scale: float | None = None) -> None:
        super().__init__()
        self.features = features
        self.adjacency = adjacency
        if not (features.uniform and features.certified):
            raise ValueError(
                f"the coupled flow needs a certified feature flow whose constants no graph changes, got {features}"
            )
        if scale is not None:
            check_real("scale", scale, above=0)
        gain = self.structure_gain()
        if features.norm != "linf" or math.isinf(gain):
            raise ValueError(
                f"the coupled flow needs a feature flow in ℓ∞ with a bounded activation, got {features} in "
                f"{features.norm} with the structural constant {gain:g}"
            )
        if adjacency.norm != "vec-l1" or not adjacency.certified:
            raise ValueError(f"the coupled flow needs an adjacency flow certified in vec-l1, got {adjacency}")
        rate = number(adjacency.rate(_empty(1)))
        if scale is None and rate <= 0:
            raise ValueError(
                f"{adjacency} does not contract (rate {rate:g}): take alpha < 0 and an activation with a positive "
                "smallest slope, or give scale"
            )
        self.scale = 2 * gain / rate if scale is None else float(scale)

    def structure_gain(self) -> float:
        """L: the features' structural constant on the graph without edges, where it is largest."""
        return self.features.structure_lipschitz(_empty(1))

    @property
    def measure(self) -> Sum:
        """``‖F‖_∞ + ω‖A‖₁``."""
        return Sum(LInf, self.scale * L1)

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """``(X(F; A₊) | Y(A))``; A is read from the state, off its diagonal and where it is positive."""
        n = x.size(0)
        f, a = x[:, : x.size(1) - n], x[:, x.size(1) - n :]
        edges = torch.ones(n, n, dtype=torch.bool, device=x.device).fill_diagonal_(False).nonzero().T
        weight = a[edges[0], edges[1]]
        current = Graph(edges, weight.masked_fill(weight < 0, 0.0), n, loop_free=True)
        pull = self.features.field(f, current, anchor=None if anchor is None else anchor[:, : f.size(1)], t=t)
        return torch.cat([pull, self.adjacency.field(a, graph)], dim=1)

    def rate(self, graph: Graph) -> float:
        """``min(κ_F, κ_A − L/ω)``."""
        return min(
            number(self.features.rate(graph)), number(self.adjacency.rate(graph)) - self.structure_gain() / self.scale
        )

    def max_step(self, graph: Graph) -> float:
        """The smaller one of the two flows' largest steps; 0 where the rate is negative."""
        if self.rate(graph) < 0:
            return 0.0
        return min(number(self.features.max_step(graph)), number(self.adjacency.max_step(graph)))

    def lipschitz(self, graph: Graph, step: Tensor | float) -> float:
        """``max(q_F, q_A + hL/ω)``, for every step."""
        coupled = number(self.adjacency.lipschitz(graph, step)) + number(step) * self.structure_gain() / self.scale
        return max(number(self.features.lipschitz(graph, step)), coupled)

    @property
    def anchor_lipschitz(self) -> float:
        """That of the features."""
        return self.features.anchor_lipschitz

    def state(self, graph: Graph, channels: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Random features beside a random symmetric matrix, ``[n, channels + n]``."""
        a = self.adjacency.state(graph, channels, generator=generator)
        return torch.cat([self.features.state(graph, channels, generator=generator), a], dim=1)

    def project(self, x: Tensor) -> Tensor:
        """The symmetric part of A."""
        c = x.size(1) - x.size(0)
        return torch.cat([x[:, :c], self.adjacency.project(x[:, c:])], dim=1)

    def permute(self, x: Tensor, order: Tensor) -> Tensor:
        """Rows, and the columns of A."""
        c = x.size(1) - x.size(0)
        return torch.cat([x[order, :c], self.adjacency.permute(x[:, c:], order)], dim=1)


def _empty(n: int) -> Graph:
    return Graph(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0), n, loop_free=True)
