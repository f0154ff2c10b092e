"""In a batch of graphs each is answered as if it were alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.utils import erdos_renyi_graph

from contractive_gnn.dynamics import Diffusion, GradientAscent, GraphGradientFlow, ImplicitFlow
from contractive_gnn.nn import AlternatingConv, EquilibriumConv, FlowConv, build
from contractive_gnn.nn.batch import graph_by_graph
from contractive_gnn.nn.similarity import Similarity, SimilarityWeights
from contractive_gnn.training import predict


@pytest.fixture(scope="module")
def graphs() -> list[Data]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [
            Data(x=torch.rand(n, 10), edge_index=erdos_renyi_graph(n, density))
            for n, density in ((20, 0.1), (30, 0.5), (15, 0.3), (6, 0.0), (1, 0.0))
        ]


def answers(layer: Any, graphs: list[Data]) -> tuple[Tensor, Tensor]:
    """Of the batch, and of its graphs one by one."""
    whole = Batch.from_data_list(graphs)
    with torch.no_grad():
        return layer(whole.x, whole.edge_index, batch=whole.batch), torch.cat(
            [layer(graph.x, graph.edge_index) for graph in graphs]
        )


@pytest.mark.parametrize(
    "name", ["robust", "robust-provable", "csgnn", "ecsgnn", "gradient-flow", "linf-diffusion", "mixture", "ensemble"]
)
def test_a_model_answers_each_graph_as_if_it_were_alone(graphs: list[Data], name: str) -> None:
    part = {"name": "robust", "model": {"rank": 4}}
    options: dict[str, Any] = {"mixture": {"teacher": part}, "ensemble": {"members": [part, {"name": "csgnn"}]}}
    if name.startswith("robust"):
        options[name] = {"rank": 4}
    with torch.random.fork_rng():
        model = build(name, 10, 3, **options.get(name, {})).eval()
    together, alone = answers(model, graphs)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        FlowConv(GraphGradientFlow(10, normalization="none", learn_weight=False)),
        FlowConv(Diffusion(), scheme="heun"),
        EquilibriumConv(ImplicitFlow(10)),
        AlternatingConv(GraphGradientFlow(10, mu=1.0, learn_weight=False), GradientAscent(10, learn_weight=False)),
        Similarity(rank=4),
        Similarity(rank=4, source="structure"),
    ],
    ids=lambda layer: str(layer)[:30],
)
def test_a_layer_answers_each_graph_as_if_it_were_alone(graphs: list[Data], layer: nn.Module) -> None:
    together, alone = answers(layer, graphs)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_without_the_batch_all_nodes_are_one_graph(graphs: list[Data]) -> None:
    whole = Batch.from_data_list(graphs)
    similarity = Similarity(rank=4)
    apart = similarity(whole.x, whole.edge_index, batch=whole.batch)
    assert float((similarity(whole.x, whole.edge_index) - apart).abs().max()) > 1e-3
    same = similarity(whole.x, whole.edge_index, batch=torch.zeros_like(whole.batch))
    assert torch.equal(similarity(whole.x, whole.edge_index), same)


def test_the_order_of_the_nodes_and_the_layout_of_the_features_do_not_matter(graphs: list[Data]) -> None:
    whole = Batch.from_data_list(graphs)
    n = whole.num_nodes
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    place = torch.empty_like(order)
    place[order] = torch.arange(n)
    layer, weight = Similarity(rank=4), torch.rand(whole.num_edges)
    given = layer(whole.x, whole.edge_index, weight, whole.batch)
    moved = layer(whole.x[order], place[whole.edge_index], weight, whole.batch[order])
    torch.testing.assert_close(given, moved, atol=1e-5, rtol=1e-5)
    sparse = layer(whole.x.to_sparse_csr(), whole.edge_index, weight, whole.batch)
    torch.testing.assert_close(given, sparse, atol=1e-5, rtol=1e-5)


def test_prediction_transform_and_calibration_hand_the_batch_on(graphs: list[Data]) -> None:
    whole = Batch.from_data_list(graphs)
    model = build("robust", 10, 3, rank=4, calibrated=True).eval()
    probability = torch.full((whole.num_nodes, 3), 1 / 3)
    probability[:20] = torch.eye(3)[torch.arange(20) % 3]
    model.calibrate(whole, probability)
    torch.testing.assert_close(predict(model, whole), torch.cat([predict(model, graph) for graph in graphs]))
    weights = SimilarityWeights(rank=4)
    written = [weights(graph.clone()).edge_weight for graph in graphs]
    torch.testing.assert_close(weights(whole.clone()).edge_weight, torch.cat(written), atol=1e-5, rtol=1e-5)
    assert build("gcn", 10, 3)(whole.x, whole.edge_index).shape == predict(build("gcn", 10, 3), whole).shape


def test_a_gradient_reaches_features_and_weights(graphs: list[Data]) -> None:
    whole = Batch.from_data_list(graphs)
    x, weight = whole.x.clone().requires_grad_(), torch.ones(whole.num_edges, requires_grad=True)
    FlowConv(Diffusion())(x, whole.edge_index, weight, whole.batch).square().sum().backward()
    for gradient in (x.grad, weight.grad):
        assert gradient is not None
        assert bool(gradient.any())


def test_a_batch_of_another_form_is_refused() -> None:
    x, edges = torch.ones(3, 2), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])

    def split(batch: Tensor) -> Tensor:
        return graph_by_graph(lambda x, edge_index, edge_weight: x, x, edges, None, batch)

    with pytest.raises(ValueError, match=r"edge \(1, 2\) joins graph 0 to graph 1 of the batch"):
        split(torch.tensor([0, 0, 1]))
    with pytest.raises(ValueError, match=r"batch is torch.int64 \[2\]; expected the graph of every node, int64 \[3\]"):
        split(torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"batch is torch\.float32"):
        split(torch.zeros(3))
    assert torch.equal(split(torch.zeros(3, dtype=torch.long)), x)


class Wrapped(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.model(x, edge_index, edge_weight)  # type: ignore[no-any-return]


class Through(Wrapped):
    def forward(self, *given: Any, **named: Any) -> Tensor:
        return self.model(*given, **named)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["robust", "csgnn", "robust-ensemble"])
def test_a_wrapper_hands_the_batch_on_or_is_refused(name: str) -> None:
    torch.manual_seed(0)
    graphs = [Data(x=torch.rand(n, 6), edge_index=erdos_renyi_graph(n, 0.4)) for n in (9, 14)]
    whole, model = Batch.from_data_list(graphs), build(name, 6, 3).eval()
    each = torch.cat([predict(model, graph) for graph in graphs])
    for told in (model, Through(model), torch.nn.DataParallel(model)):
        torch.testing.assert_close(predict(told, whole), each, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"data is a batch of graphs, .* give Wrapped\.forward an argument batch"):
        predict(Wrapped(model), whole)
    alone = Wrapped(model)
    torch.testing.assert_close(predict(alone, Batch.from_data_list(graphs[:1])), predict(model, graphs[0]))
    whole.batch = whole.batch.tolist()
    with pytest.raises(ValueError, match=r"batch is a list; expected the number of each node's graph, int64 \[23\]"):
        predict(model, whole)
