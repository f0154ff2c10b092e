r"""Expansive gradient ascent, the other half of contractive–expansive networks."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_geometric.nn import MessagePassing

from contractive_gnn.dynamics.gradient_flow import GradientFlow
from contractive_gnn.dynamics.graph_gradient_flow import GraphGradientFlow
from contractive_gnn.graph import Graph


class GradientAscent(GraphGradientFlow):
    r"""Gradient *ascent* on a convex potential of edge differences: it sharpens what a gradient flow smooths.

    .. math::
        \dot F_i = +\sum_j a_{ij}\,\sigma((F_i - F_j) W) W^\top

    The eigenvalues of DX lie in ``[−ρ‖W‖²‖G‖², ν]`` with ``ν = s_max ‖W‖₂² ‖G‖²``, so it expands at a rate of at most ν
    and an Euler step is ``(1 + hν)``-Lipschitz, for every h. Alternated with contracting steps the total can be kept at
    1 (Celledoni, Murari, Owren, Schönlieb, Sherry, *Dynamical systems-based neural networks*, SISC 2023, section 3):
    :class:`~contractive_gnn.nn.AlternatingConv`.

    Args:
        channels: number of feature channels c.
        **flow: arguments of :class:`GraphGradientFlow`; there is no fidelity, so no ``mu``.

    Raises:
        ValueError: as :class:`GraphGradientFlow`.
        TypeError: for ``mu``.
    """

    # PyG compiles propagate for each class and hands the inherited one to explainers: it would ignore their masks.
    propagate = MessagePassing.propagate

    def __init__(self, channels: int, **flow: Any) -> None:
        if "mu" in flow:
            raise TypeError("GradientAscent has no fidelity term: mu is not one of its arguments")
        super().__init__(channels, mu=0.0, **flow)

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate the right-hand side of the class's equation; shape ``[n, c]``; the anchor is not read."""
        return -super().field(x, graph, t=t)

    def gradient_flow(self, graph: Graph, anchor: Tensor | None = None) -> GradientFlow:
        """The same field as the ascent of :meth:`operator`; there is nothing to anchor."""
        descent = super().gradient_flow(graph)
        return GradientFlow(descent.operator, descent.sigma, expansive=True)

    def rate(self, graph: Graph) -> Tensor:
        """``−ν``."""
        return -self.smoothness(graph)

    def max_step(self, graph: Graph) -> Tensor:
        """0: no step contracts."""
        return self.smoothness(graph).new_zeros(())

    def lipschitz(self, graph: Graph, step: Tensor | float) -> Tensor:
        """``1 + hν``."""
        return 1.0 + step * self.smoothness(graph)
