"""What a user puts in the place of a method is used: compiled code takes the place of our own methods only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import MeanAggregation

from contractive_gnn.dynamics import (
    Adjacency,
    AdjacencyFlow,
    Diffusion,
    Dynamics,
    GraphGradientFlow,
    HamiltonianFlow,
    ImplicitFlow,
)
from contractive_gnn.graph import Graph
from contractive_gnn.nn import FlowConv

EDGES = torch.tensor([[0, 1, 1, 2, 2, 0, 2, 3], [1, 0, 2, 1, 0, 2, 3, 2]])
X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def flow() -> GraphGradientFlow:
    return GraphGradientFlow(3, activation="huber", learn_weight=False)


def diffusion() -> Diffusion:
    return Diffusion(activation="huber", mu=0.0)


class DoubledFlow(GraphGradientFlow):
    def message(self, z_i: Tensor, z_j: Tensor, a: Tensor) -> Tensor:
        return 2 * super().message(z_i, z_j, a)


class DoubledDiffusion(Diffusion):
    def message(self, x_i: Tensor, x_j: Tensor, p: Tensor) -> Tensor:
        return 2 * super().message(x_i, x_j, p)


class UpdatedFlow(GraphGradientFlow):
    def update(self, inputs: Tensor) -> Tensor:
        return 2 * inputs


class PropagatingFlow(GraphGradientFlow):
    def propagate(self, *given: Any, **named: Any) -> Tensor:  # type: ignore[override]
        return 2 * super().propagate(*given, **named)  # type: ignore[no-any-return]


def doubled_method(field: Any) -> Any:
    message = field.message
    field.message = lambda **given: 2 * message(**given)
    return field


def doubled_sigma(field: Any) -> Any:
    field.sigma.forward = lambda d: 2 * d.clamp(-1, 1)
    return field


def hooked(field: Any, hook: str) -> Any:
    getattr(field, f"register_{hook}_forward_hook")(lambda layer, given, out: 2 * out)
    return field


def hooked_sigma(field: Any) -> Any:
    field.sigma.register_forward_hook(lambda sigma, given, out: 2 * out)
    return field


@pytest.mark.parametrize(
    ("make", "plain"),
    [
        (lambda: DoubledFlow(3, activation="huber", learn_weight=False), flow),
        (lambda: DoubledDiffusion(activation="huber", mu=0.0), diffusion),
        (lambda: UpdatedFlow(3, activation="huber", learn_weight=False), flow),
        (lambda: PropagatingFlow(3, activation="huber", learn_weight=False), flow),
        (lambda: doubled_method(flow()), flow),
        (lambda: doubled_method(diffusion()), diffusion),
        (lambda: doubled_sigma(flow()), flow),
        (lambda: hooked(flow(), "message"), flow),
        (lambda: hooked(diffusion(), "message"), diffusion),
        (lambda: hooked(flow(), "aggregate"), flow),
        (lambda: hooked(diffusion(), "propagate"), diffusion),
        (lambda: hooked_sigma(flow()), flow),
        (lambda: hooked_sigma(diffusion()), diffusion),
    ],
)
def test_doubled_messages_double_the_field_and_reach_the_steps(
    make: Callable[[], Dynamics], plain: Callable[[], Dynamics]
) -> None:
    graph, changed, own = Graph.of(X, EDGES), make(), plain()
    torch.testing.assert_close(changed.field(X, graph), 2 * own.field(X, graph))
    once = changed.euler(X, graph, step=0.1, num_steps=1)
    torch.testing.assert_close(once, X + 0.2 * own.field(X, graph))


def test_another_aggregation_is_used() -> None:
    changed = diffusion()
    changed.aggr_module = MeanAggregation()
    graph = Graph.of(X, EDGES)
    degree = graph.row_sum(graph.edge_weight).unsqueeze(1)
    torch.testing.assert_close(changed.field(X, graph) * degree, diffusion().field(X, graph))


def test_a_hook_that_is_removed_leaves_the_compiled_numbers() -> None:
    field, graph = flow(), Graph.of(X, EDGES)
    before = field.field(X, graph)
    handle = field.register_message_forward_hook(lambda layer, given, out: 2 * out)
    handle.remove()
    assert torch.equal(field.field(X, graph), before)


class SteepField(GraphGradientFlow):
    def field(self, x: Tensor, graph: Graph, **rest: Any) -> Tensor:  # type: ignore[override]
        return 2 * super().field(x, graph, **rest)


def test_a_layer_integrates_a_field_of_ones_own() -> None:
    conv = FlowConv(SteepField(3, activation="huber", learn_weight=False), num_steps=1, step=0.1)
    torch.testing.assert_close(conv(X, EDGES), X + 0.2 * flow().field(X, Graph.of(X, EDGES)))


def test_a_weight_is_learned_or_not() -> None:
    for operator in (torch.nn.Conv2d(4, 4, 3), torch.eye(4), "identity", 1):
        with pytest.raises(TypeError, match="weight says whether a matrix W is learned, True or False"):
            GraphGradientFlow(4, learn_weight=operator)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "field", [GraphGradientFlow(2), GraphGradientFlow(2, learn_weight=False), HamiltonianFlow(4, learn_weight=False)]
)
def test_the_constants_are_for_the_channels_that_were_given(field: Dynamics) -> None:
    graph = Graph.of(X, EDGES)
    with pytest.raises(ValueError, match=r"GraphGradientFlow takes a state of shape \[4, 2\], .* got \[4, 3\]"):
        field.field(torch.ones(4, 6 if isinstance(field, HamiltonianFlow) else 3), graph)


@pytest.mark.parametrize(
    "field",
    [GraphGradientFlow(3), GraphGradientFlow(3, learn_weight=False, activation="huber"), Diffusion(), ImplicitFlow(3)],
)
@pytest.mark.parametrize("shape", [(4, 4, 3), (2, 4, 3), (5, 3), (3,)])
def test_no_other_axis_is_taken_for_the_nodes(field: Dynamics, shape: tuple[int, ...]) -> None:
    graph, x = Graph.of(X, EDGES), torch.ones(shape)
    for call in (lambda: field.field(x, graph), lambda: field.euler(x, graph, step=0.1, num_steps=2)):
        with pytest.raises(ValueError, match=r"takes a state of shape \[4, .*a row for each node of the graph, got"):
            call()


class OtherMatrixFlow(AdjacencyFlow):
    def linear_dense(self, a: Tensor) -> Tensor:
        return 2 * super().linear_dense(a)


def test_the_sparse_step_refuses_a_dense_field_that_it_does_not_know() -> None:
    adjacency = Adjacency.of(Graph.of(X, EDGES))
    with pytest.raises(TypeError, match=r"OtherMatrixFlow has a linear_dense of its own, which the step"):
        OtherMatrixFlow()(adjacency)
    changed = AdjacencyFlow()
    changed.field = lambda x, graph, **rest: -x  # type: ignore[method-assign]
    with pytest.raises(TypeError, match="has a field of its own"):
        changed(adjacency)
    assert OtherMatrixFlow().forward_dense(adjacency.dense()).shape == (4, 4)
