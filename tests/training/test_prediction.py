"""Scores and their worth: weights, graphs that do not fit, modes, threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn import datasets, nn, training


@pytest.mark.parametrize(
    "name", ["gcn", "gat", "appnp", "csgnn", "linf-diffusion", "robust", "robust-ensemble", "rung"]
)
def test_weights_of_edges_are_read(data: Data, name: str) -> None:
    same = data.y[data.edge_index[0]] == data.y[data.edge_index[1]]
    weighted, plain = data.clone(), data.clone()
    weighted.edge_weight = torch.where(same, 1.0, 0.0)
    plain.edge_index = data.edge_index[:, same]
    scores = []
    plainly = {"dropout": 0.0} if name == "gat" else {}  # it draws for every edge, also for one of weight 0
    for graph in (weighted, plain):
        model = nn.build(name, data.num_features, 3, **plainly)
        training.fit(model, graph, epochs=3, self_training=0.4)
        scores.append(training.predict(model, graph))
        assert training.evaluate(model, graph, graph.test_mask) == pytest.approx(
            100 * float((scores[-1].argmax(dim=1) == graph.y)[graph.test_mask].float().mean())
        )
        assert torch.equal(scores[-1], model(graph.x, graph.edge_index, graph.get("edge_weight")).detach())
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-3, atol=1e-4)  # an edge of weight 0 is none
    weighted.edge_weight = torch.where(same, 1.0, 0.5)
    if getattr(model, "mode", "edges") == "edges":
        assert not torch.allclose(training.predict(model, weighted), training.predict(model, data))
    weighted.edge_weight = torch.ones_like(weighted.edge_weight)
    model = nn.build(name, data.num_features, 3)
    training.fit(model, data, epochs=1)
    assert torch.equal(training.predict(model, weighted), training.predict(model, data))


class TwoArguments(torch.nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.map = torch.nn.Linear(features, 3)

    def reset_parameters(self) -> None:
        self.map.reset_parameters()

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        return self.map(x)


def test_weights_that_a_model_cannot_read_are_refused(data: Data) -> None:
    weighted = data.clone()
    weighted.edge_weight = torch.full((data.num_edges,), 0.5)
    model = TwoArguments(data.num_features)
    training.fit(model, data, epochs=2)
    for use in (
        lambda: training.fit(model, weighted, epochs=2),
        lambda: training.predict(model, weighted),
        lambda: training.evaluate(model, weighted, weighted.test_mask),
    ):
        with pytest.raises(ValueError, match=r"TwoArguments\.forward\(x, edge_index\) takes no edge_weight"):
            use()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y": torch.full((150,), 3)}, "y holds class 3, but the model scores 3 classes, 0 to 2"),
        ({"x": torch.ones(150, 9)}, "x has 9 features, GCNClassifier was built for 8"),
        ({"x": torch.ones(150, 8, dtype=torch.float64)}, "x is torch.float64, GCNClassifier torch.float32"),
        ({"x": torch.full((150, 8), torch.nan)}, "not finite"),
        ({"y": torch.full((150,), -1)}, r"data\.train_mask selects \d+ nodes without a label"),
    ],
)
def test_a_graph_that_does_not_fit_the_model_says_so(data: Data, change: dict[str, torch.Tensor], says: str) -> None:
    other = data.clone()
    for key, value in change.items():
        other[key] = value
    with pytest.raises(ValueError, match=says):
        training.fit(nn.build("gcn", 8, 3), other, epochs=1)


def test_a_judgement_needs_nodes_with_labels_and_puts_the_mode_back(data: Data) -> None:
    model = nn.build("gcn", data.num_features, 3)
    training.fit(model, data, epochs=2)
    model.train()
    model.conv1.eval()
    modes = [module.training for module in model.modules()]
    training.predict(model, data)
    training.evaluate(model, data, [0, 5])
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(ValueError, match="mask must select at least one node"):
        training.evaluate(model, data, data.y > 7)
    unknown = data.clone()
    unknown.y[5] = -100
    with pytest.raises(ValueError, match="mask selects 1 nodes without a label"):
        training.evaluate(model, unknown, [0, 5])


def test_scores_that_are_not_numbers_are_wrong(data: Data) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return torch.full((x.size(0), 3), float("nan"))

    assert training.evaluate(Broken(), data, data.y == 0) == 0.0
    with pytest.raises(FloatingPointError, match="Broken's scores of 150 of 150 nodes are not finite"):
        training.predict(Broken(), data)


@pytest.mark.parametrize("name", ["mlp", "gcn", "appnp", "linf-diffusion", "csgnn", "robust"])
@pytest.mark.parametrize("width", [3, 20])
def test_sparse_features_of_another_width_are_refused(name: str, width: int) -> None:
    data = datasets.contextual_sbm(60, classes=3, features=8, seed=0)
    data.x = torch.nn.functional.one_hot(torch.arange(60) % width, width).float()
    model = nn.build(name, 8, 3)
    with pytest.raises(ValueError, match=rf"x has {width} features, .*built for 8"):
        training.predict(model, data)
    with pytest.raises(ValueError, match=rf"x has {width} features, .*built for 8"):
        model(data.x.to_sparse_csr(), data.edge_index)


def test_threads_that_ask_one_model_do_not_change_its_mode(data: Data) -> None:
    model = nn.build("mlp", data.num_features, 3, dropout=0.9).train()
    expected = training.predict(model, data)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: training.predict(model, data), range(200)))
    assert all(torch.equal(answer, expected) for answer in answers)
    assert model.training
