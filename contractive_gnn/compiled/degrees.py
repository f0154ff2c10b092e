r"""Edge weights over the degrees of their targets, ``p_ij = a_ij/(ε + Σ_k a_ik)``, in two loops over the edges.

With tensor operations the degrees are gathered for every edge, and their gradient is scattered.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from contractive_gnn.activations import Identity
from contractive_gnn.compiled import kernels
from contractive_gnn.compiled.edge_order import check_nodes
from contractive_gnn.compiled.plain_gradients import plain_gradients
from contractive_gnn.graph import Graph

_IDENTITY: Final = Identity()


def over_degrees(graph: Graph, epsilon: float) -> Tensor:
    """The module's equation, ``[E]``; self-loops count in no degree. Differentiable any number of times.

    Args:
        graph: with the weights a.
        epsilon: ε > 0.

    Raises:
        IndexError: for an index outside 0 … n − 1.

    Example:
        >>> graph = Graph(torch.tensor([[0, 1], [1, 0]]), torch.tensor([3.0, 3.0]), 2)
        >>> over_degrees(graph, 1.0).tolist()
        [0.75, 0.75]
    """
    if not kernels.available(_IDENTITY, graph.edge_weight):
        return _plain(graph.edge_weight, graph, epsilon)
    found: Tensor = _OverDegrees.apply(graph.edge_weight, graph, epsilon)
    return found


def _plain(weight: Tensor, graph: Graph, epsilon: float) -> Tensor:
    degree = (graph.row_sum(weight) + epsilon)[graph.target]
    return weight / degree


class _OverDegrees(torch.autograd.Function):
    """The equation as a function of a."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, graph: Graph, epsilon: float) -> Tensor:
        source, target = (end.detach().contiguous().numpy() for end in graph.edge_index)
        check_nodes(target, graph.num_nodes)
        found, degree = _loops().over_degrees(
            weight.detach().contiguous().numpy(), source, target, graph.num_nodes, epsilon
        )
        ctx.save_for_backward(weight, graph.edge_index, torch.from_numpy(degree))
        ctx.given = graph, epsilon
        return torch.from_numpy(found)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        weight, edge_index, degree = ctx.saved_tensors
        found = plain_gradients(lambda weight: _plain(weight, *ctx.given), (weight,), (True,), g)
        if found is not None:
            return *found, None, None
        source, target = (end.detach().contiguous().numpy() for end in edge_index)
        slopes = _loops().over_degrees_backward(
            g.detach().contiguous().numpy(), weight.detach().contiguous().numpy(), source, target, degree.numpy()
        )
        return torch.from_numpy(slopes), None, None


def _loops() -> Any:
    from contractive_gnn.compiled import edge_loops  # numba is imported where it is needed

    return edge_loops
