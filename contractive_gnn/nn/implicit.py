"""The equilibrium of a contracting field as a layer, of any domain and on a graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.dynamics import Dynamics, VectorField
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import fixed_point
from contractive_gnn.integrators.scheme import velocity
from contractive_gnn.nn.arguments import (
    check_dynamics,
    check_features,
    check_field,
    check_floating,
    edge_list,
    refuse_export,
    widened,
)
from contractive_gnn.nn.batch import graph_by_graph
from contractive_gnn.nn.bound import simple, simple_graphs
from contractive_gnn.norms import number


class _Euler(nn.Module):
    """One Euler step of a field, as a module: a function of its tensors."""

    def __init__(self, field: VectorField, step: float) -> None:
        super().__init__()
        self.field, self.step = field, step

    def forward(self, x: Tensor) -> Tensor:
        """``x + h X(x)``."""
        return x + self.step * velocity(self.field, x, 0.0)


class _Rest(nn.Module):
    """How closely an equilibrium is found; the field is an argument of its methods."""

    def __init__(self, *, tolerance: float | None, max_iterations: int) -> None:
        super().__init__()
        if tolerance is not None:
            check_real("tolerance", tolerance, above=0)
        check_whole("max_iterations", max_iterations, least=1)
        self.tolerance = tolerance
        self.max_iterations = max_iterations

    def _solve(self, field: VectorField, x: Tensor) -> Tensor:
        """The equilibrium of ``field``, found from ``x``, differentiable by all tensors of the field."""
        with torch.no_grad():
            rate, step = number(field.rate()), number(field.max_step())
        if not (rate > 0 and step > 0):
            raise ValueError(
                f"{field} has no unique equilibrium that is proved{field.where}: its rate is {rate:.3g}, "
                "and must be positive; raise its mu (or lower gamma)"
            )
        euler = _Euler(field, step)
        tensors = (*euler.named_buffers(), *euler.named_parameters())
        held = {name: tensor for name, tensor in tensors if tensor.is_floating_point()}

        def f(y: Tensor, *given: Tensor) -> Tensor:
            own = dict(zip(held, given, strict=True))
            return torch.func.functional_call(euler, own, (y,))  # type: ignore[no-any-return]

        with torch.autocast(x.device.type, enabled=False):  # no iteration comes to rest in half precision
            return fixed_point(
                f, x.detach(), *held.values(), tolerance=self.tolerance, max_iterations=self.max_iterations
            )

    def _constant(self, field: VectorField) -> float:
        """``anchor_lipschitz/κ``; ``inf`` where the field does not contract."""
        rate = number(field.rate())
        return field.anchor_lipschitz / rate if rate > 0 else math.inf


class Equilibrium(_Rest):
    r"""The equilibrium of a field of any domain as a layer: ``X(x*; u) = 0`` with the input u as the anchor.

    With a field that contracts at κ > 0 there is exactly one, the layer is ``anchor_lipschitz/κ``-Lipschitz in the
    field's norm, and it is found by Euler steps of the longest contracting length; the gradient is that of the implicit
    function theorem (:func:`~contractive_gnn.integrators.fixed_point`), so memory does not grow with the iterations.
    With a gradient flow it is the proximal point of its potential.

    Args:
        field: a field with a positive rate, whose anchor is a buffer
            (:meth:`~contractive_gnn.dynamics.VectorField.anchored`).
        tolerance: relative residual of the equilibrium; None for 30 times the dtype's precision.
        max_iterations: of the forward and of the backward iteration.

    Shapes:
        ``x`` of any shape that the field takes, float32 or float64; output of the same shape.

    Raises:
        TypeError: for a field that is no :class:`~contractive_gnn.dynamics.VectorField`.
        ValueError: (called) where the field does not contract, and where its anchor asks for a gradient and is in no
            buffer.
        NotImplementedError: under forward mode or torch.func.
        contractive_gnn.integrators.ConvergenceError: where the tolerance is not met.
    """

    def __init__(self, field: VectorField, *, tolerance: float | None = None, max_iterations: int = 500) -> None:
        super().__init__(tolerance=tolerance, max_iterations=max_iterations)
        self.field = check_field(field, type(self).__name__)

    def reset_parameters(self) -> None:
        """Draw the field's parameters anew."""
        self.field.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """The equilibrium, of the shape of ``x``."""
        check_floating(x, type(self).__name__)
        refuse_export(self, "how often it iterates depends on the values")
        return self._solve(self.field.anchored(x), x)

    def lipschitz(self) -> float:
        """``anchor_lipschitz/κ`` in the field's norm; ``inf`` where it does not contract.

        Raises:
            InputError: for a field on a graph that is not undirected and simple, with finite weights of at least 0.
        """
        simple_graphs(self.field)
        return self._constant(self.field)


class EquilibriumConv(_Rest):
    r"""The equilibrium of a field on a graph as a layer: ``X(x*; u) = 0`` with the input u as the anchor.

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
        contractive_gnn.integrators.ConvergenceError: where the tolerance is not met.
    """

    def __init__(self, dynamics: Dynamics, *, tolerance: float | None = None, max_iterations: int = 500) -> None:
        super().__init__(tolerance=tolerance, max_iterations=max_iterations)
        self.dynamics = check_dynamics(dynamics, type(self).__name__)

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
        return self._solve(self.dynamics.on(graph, x), x).to(dtype)

    def lipschitz(self, graph: Graph) -> float:
        """``anchor_lipschitz/κ`` on a fixed graph, in the field's norm.

        Raises:
            InputError: for a graph that is not undirected and simple, with finite weights of at least 0.
        """
        return self._constant(self.dynamics.on(simple(graph)))
