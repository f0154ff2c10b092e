r"""Edge weights over the degrees of their targets, ``p_ij = a_ij/(ε + Σ_k a_ik)``, in two loops over the edges.

With tensor operations the degrees are gathered for every edge, and their gradient is scattered.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from contractive_gnn.activations import Identity
from contractive_gnn.compiled import kernels
from contractive_gnn.graph import Graph, transformed

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
        if target.size and (target.min() < 0 or target.max() >= graph.num_nodes):
            raise IndexError(
                f"edge_index must hold node indices from 0 to {graph.num_nodes - 1}, got {target.min()} to "
                f"{target.max()}"
            )
        found, degree = _loops().over_degrees(
            weight.detach().contiguous().numpy(), source, target, graph.num_nodes, epsilon
        )
        ctx.save_for_backward(weight, graph.edge_index, torch.from_numpy(degree))
        ctx.given = graph, epsilon
        return torch.from_numpy(found)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        weight, edge_index, degree = ctx.saved_tensors
        again = torch.is_grad_enabled()  # someone asks for the gradient's own graph: differentiate the plain formula
        if again or transformed(g):
            with torch.enable_grad():
                alone = weight.view_as(weight)
                out = _plain(alone, *ctx.given)
            (by_weight,) = torch.autograd.grad(out, alone, g, create_graph=again)
            return by_weight, None, None
        source, target = (end.detach().contiguous().numpy() for end in edge_index)
        slopes = _loops().over_degrees_backward(
            g.detach().contiguous().numpy(), weight.detach().contiguous().numpy(), source, target, degree.numpy()
        )
        return torch.from_numpy(slopes), None, None


def _loops() -> Any:
    from contractive_gnn.compiled import edge_loops  # numba is imported where it is needed

    return edge_loops
