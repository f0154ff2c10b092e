"""The equilibrium of a contracting field as a layer."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.dynamics import Dynamics
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import fixed_point
from contractive_gnn.nn.arguments import check_features, edge_list, refuse_export, widened
from contractive_gnn.nn.batch import graph_by_graph
from contractive_gnn.nn.bound import simple
from contractive_gnn.norms import number


class _Euler(nn.Module):
    """One Euler step of a field, as a module: a function of its parameters."""

    def __init__(self, dynamics: Dynamics, step: float) -> None:
        super().__init__()
        self.dynamics, self.step = dynamics, step

    def forward(self, x: Tensor, graph: Graph, anchor: Tensor) -> Tensor:
        """``x + h X(x)``."""
        return x + self.step * self.dynamics.field(x, graph, anchor=anchor)


class EquilibriumConv(nn.Module):
    r"""The equilibrium of a field as a layer: ``X(x*; u) = 0`` with the input u as the anchor.

    With a field that contracts at κ > 0 there is exactly one, the layer is ``anchor_lipschitz/κ``-Lipschitz in the
    field's norm, and it is found by Euler steps of the longest contracting length; the gradient is that of the implicit
    function theorem (:func:`~contractive_gnn.integrators.fixed_point`), so memory does not grow with the iterations; in
    reverse mode it can be taken any number of times.
    With :class:`~contractive_gnn.dynamics.ImplicitFlow` it is the implicit network of Jafarpour et al. (NeurIPS 2021)
    on a graph; with a gradient flow, the proximal point of its potential.

    Args:
        dynamics: a field with a positive rate.
        tolerance: relative residual of the equilibrium; None for 30 times the dtype's precision.
        max_iterations: of the forward and of the backward iteration.

    Shapes:
        ``x`` ``[n, c]``, ``edge_index`` ``[2, E]``, ``edge_weight`` ``[E]``, output ``[n, c]``.

    Raises:
        ValueError: where the field does not contract on the graph.
        NotImplementedError: under forward mode or torch.func.
        ConvergenceError: where the tolerance is not met.
    """

    def __init__(self, dynamics: Dynamics, *, tolerance: float | None = None, max_iterations: int = 500) -> None:
        super().__init__()
        self.dynamics = dynamics
        if tolerance is not None:
            check_real("tolerance", tolerance, above=0)
        check_whole("max_iterations", max_iterations, least=1)
        self.tolerance = tolerance
        self.max_iterations = max_iterations

    def reset_parameters(self) -> None:
        """Draw the field's parameters anew."""
        self.dynamics.reset_parameters()

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """The equilibrium, shape ``[n, c]``; that of each graph by itself with ``batch`` ``[n]``."""
        if batch is not None:
            return graph_by_graph(self.forward, x, edge_index, edge_weight, batch)
        check_features(x, self)
        refuse_export(self, "how often it iterates depends on the values")
        dtype, x = x.dtype, widened(x)
        graph = Graph.of(x, *edge_list(x, edge_index, edge_weight))
        with torch.no_grad():
            rate, step = number(self.dynamics.rate(graph)), number(self.dynamics.max_step(graph))
        if not (rate > 0 and step > 0):
            raise ValueError(
                f"{self.dynamics} has no unique equilibrium that is proved on this graph: its rate is {rate:.3g}, "
                "and must be positive; raise its mu (or lower gamma)"
            )
        euler = _Euler(self.dynamics, step)
        learned = dict(euler.named_parameters())

        def f(y: Tensor, anchor: Tensor, weight: Tensor, *parameters: Tensor) -> Tensor:
            current = graph if weight is graph.edge_weight else dataclasses.replace(graph, edge_weight=weight)
            given = dict(zip(learned, parameters, strict=True))
            return torch.func.functional_call(euler, given, (y, current, anchor))  # type: ignore[no-any-return]

        with torch.autocast(x.device.type, enabled=False):  # no iteration comes to rest in half precision
            return fixed_point(
                f,
                x.detach(),
                x,
                graph.edge_weight,
                *learned.values(),
                tolerance=self.tolerance,
                max_iterations=self.max_iterations,
            ).to(dtype)

    def lipschitz(self, graph: Graph) -> float:
        """``anchor_lipschitz/κ`` on a fixed graph, in the field's norm.

        Raises:
            InputError: for a graph that is not undirected and simple, with finite weights of at least 0.
        """
        graph = simple(graph)
        rate = number(self.dynamics.rate(graph))
        return self.dynamics.anchor_lipschitz / rate if rate > 0 else float("inf")
