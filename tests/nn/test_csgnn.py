"""The coupled model: its two steps, its roles of parameters, its certificate flag."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contractive_gnn import datasets
from contractive_gnn.activations import Huber, Identity
from contractive_gnn.dynamics import Adjacency, AdjacencyFlow
from contractive_gnn.graph import Graph
from contractive_gnn.nn import CSGNN, CoupledConv


@pytest.fixture(scope="module")
def graph() -> Graph:
    data = datasets.contextual_sbm(40, classes=2, features=4, average_degree=6, seed=1)
    return Graph.of(data.x, data.edge_index)


def test_features_use_the_adjacency_that_enters(graph: Graph) -> None:
    conv = CoupledConv(4, adjacency_flow=AdjacencyFlow(step=0.5, scale=1.0))
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    adjacency = Adjacency.of(graph)
    moved, evolved = conv(x, adjacency)
    torch.testing.assert_close(moved, x + conv.step_size(graph) * conv.field(x, graph))
    assert not torch.allclose(evolved.edge_weight(), graph.edge_weight)


def test_the_adjacency_never_depends_on_the_features(graph: Graph) -> None:
    model = CSGNN(4, 2)
    one, other = (model.adjacencies(torch.randn(40, 4), graph.edge_index)[-1] for _ in range(2))
    torch.testing.assert_close(one.edge_weight(), other.edge_weight(), rtol=0, atol=0)


@pytest.mark.parametrize("normalization", ["none", "sym", "degree"])
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_the_corrected_feature_step_is_non_expansive_through_training(
    graph: Graph, normalization: str, seed: int
) -> None:
    torch.manual_seed(seed)
    conv = CoupledConv(4, step=1e9, activation=Huber(0.5), normalization=normalization).double()  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.5)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(5):
        adjacency = Adjacency.of(Graph(graph.edge_index, graph.edge_weight.double(), 40))
        x = torch.randn(40, 4, dtype=torch.float64, generator=generator)
        y = x + torch.randn(40, 4, dtype=torch.float64, generator=generator)
        with torch.no_grad():
            fy, _ = conv(y, adjacency)
        fx, _ = conv(x, adjacency)
        scale = conv.degree(adjacency.graph()).sqrt().unsqueeze(1) if normalization == "degree" else 1.0
        assert float((scale * (fx.detach() - fy)).norm()) <= float((scale * (x - y)).norm()) * (1 + 1e-12)
        optimizer.zero_grad()
        (-fx.square().sum()).backward()
        optimizer.step()


def test_what_the_sparse_form_leaves_out_is_reported(graph: Graph) -> None:
    model = CSGNN(4, 2, num_layers=3, adjacency="published", condition="printed", adjacency_step=0.5)
    states = model.adjacencies(torch.zeros(40, 4), graph.edge_index)  # three layers
    assert len(states) == 4
    assert states[0].error == 0.0
    assert states[0].off_support() == 0.0
    assert states[-1].off_support() > 0.0
    assert states[-1].error >= states[1].error >= 0.0


def test_certified_says_which_forms_are_proved() -> None:
    assert CSGNN(4, 2).certified
    assert CSGNN(4, 2, adjacency="fixed").certified
    assert not CSGNN(4, 2, adjacency="published").certified
    assert not CSGNN(4, 2, adjacency="unconstrained").certified
    assert not CSGNN(4, 2, condition="printed").certified


def test_parameters_by_role() -> None:
    model = CSGNN(4, 2, num_layers=2, learn_weight=True)
    groups = model.parameter_groups()
    assert {role: len(parameters) for role, parameters in groups.items()} == {"encoder": 4, "node": 2, "adjacency": 1}
    assert sum(len(parameters) for parameters in groups.values()) == len(list(model.parameters()))
    assert len(CSGNN(4, 2, num_layers=5, shared=True).blocks) == 1


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        CSGNN(4, 2, num_layers=0)
    with pytest.raises(ValueError, match="condition must be 'corrected' or 'printed', got 'none'"):
        CSGNN(4, 2, condition="none")  # type: ignore[arg-type]


def test_the_gradient_surrogate_is_the_same_function_on_binary_graphs_and_sees_absent_edges(graph: Graph) -> None:
    model = CSGNN(4, 2, adjacency="fixed", placement="inside").eval()
    twin = model.gradient_surrogate()
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(twin(x, graph.edge_index), model(x, graph.edge_index))
    absent = torch.zeros(graph.edge_index.size(1), requires_grad=True)
    blind, seeing = (
        torch.autograd.grad(m(x, graph.edge_index, absent)[:, 0].square().sum(), absent)[0] for m in (model, twin)
    )
    assert bool((blind == 0).all())
    assert bool((seeing != 0).float().mean() > 0.9)


def test_weights_that_a_flow_turned_negative_do_not_expand() -> None:
    graph = Graph(torch.tensor([[0, 1], [1, 0]]), torch.tensor([-1.0, -1.0]).double(), 2)
    conv = CoupledConv(
        1, placement="outside", normalization="none", activation="identity", step=5.0, learn_weight=False
    )
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    moved, _ = conv(x, Adjacency.of(graph))
    assert float(moved.norm()) <= float(x.norm())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"adjacency": "fixed", "alpha": -2.0}, r"'fixed' has no flow .* got -2\.0 and 0\.02; leave them out"),
        ({"adjacency": "fixed", "adjacency_step": 0.5}, r"'fixed' has no flow .* got -0\.1 and 0\.5"),
        ({"activation": Identity(), "threshold": 2.0}, "threshold belongs to an activation given by name"),
    ],
)
def test_what_the_model_would_not_read_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CSGNN(4, 2, **options)


@pytest.mark.parametrize("sigma", ["mcp", "firm", "scad", "group-mcp", "log-sum"])
def test_a_flow_without_a_contractive_step_says_so(sigma: str) -> None:
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    model = CSGNN(4, 2, activation=sigma, threshold=1.0)
    for ask in (lambda: model(torch.ones(3, 4), edges), lambda: model.lipschitz(torch.ones(3, 4), edges)):
        with pytest.raises(ValueError, match=r"no contractive step on this graph .* raise its mu"):
            ask()
