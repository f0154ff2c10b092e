"""The models on the similarity adjacency: invariances, and the contraction claimed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn import attacks, datasets, nn
from contractive_gnn.compiled import kernels
from contractive_gnn.nn.similarity import robust
from contractive_gnn.nn.sparse import compress
from contractive_gnn.training import evaluate, fit

MODELS = ["robust", "robust-provable"]


@pytest.fixture(scope="module")
def data() -> Data:
    data = datasets.contextual_sbm(60, classes=3, features=12, average_degree=6, seed=2)
    data.x = (data.x > 0.4).double()  # a bag of words, with an empty row
    data.x[7] = 0
    return data


@pytest.mark.parametrize("sparse", [False, True])
def test_the_normalised_features_are_kept_while_they_are_the_same(data: Data, sparse: bool) -> None:
    model, x = (
        robust(12, 3, hidden_channels=8).double().eval(),
        compress(data.x, max_density=1.0) if sparse else data.x.clone(),
    )
    before = model._features(x)
    assert model._features(x) is before
    if not sparse:
        x[0] = 2 * x[1] + x[2]
        assert not torch.equal(model._features(x), before)
    attacked = x.detach().clone().requires_grad_()
    torch.testing.assert_close(model(attacked, data.edge_index), model(x, data.edge_index))
    assert model._features(attacked) is not model._features(attacked)


@pytest.mark.parametrize("name", MODELS)
def test_a_constant_factor_changes_nothing(data: Data, name: str) -> None:
    outputs = []
    for factor in (1.0, 1e-3, 250.0):
        graph = copy.copy(data)
        graph.x = factor * data.x.float()
        model = nn.build(name, 12, 3, hidden_channels=8)
        fit(model, graph, epochs=8, self_training=0.5)
        outputs.append(model(compress(graph.x), graph.edge_index).detach())
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_nodes_may_be_renumbered(data: Data, name: str) -> None:
    model = nn.build(name, 12, 3, hidden_channels=8).double().eval()
    order = torch.randperm(data.num_nodes, generator=torch.Generator().manual_seed(3))
    place = order.argsort()
    torch.testing.assert_close(
        model(data.x[order], place[data.edge_index]), model(data.x, data.edge_index)[order], rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_structure_teaches_where_there_are_no_features(data: Data, name: str) -> None:
    model = nn.build(name, 12, 3, hidden_channels=8)
    assert model.communities(data) is None  # type: ignore[operator]
    bare = copy.copy(data)
    bare.x = torch.eye(data.num_nodes)
    expected = nn.seeded_communities(data.edge_index, data.y, data.train_mask, num_classes=3)
    assert torch.equal(model.communities(bare), expected)  # type: ignore[operator]


def test_polblogs_withstands_the_published_metattack(real_data: None) -> None:
    data = datasets.load_attacked("polblogs", "metattack", 0.25)
    model = nn.build("robust", data.num_features, 2, num_layers=10)
    fit(model, data, epochs=20, self_training=0.8)
    assert evaluate(model, data, data.test_mask) > 92  # 59 to 67 without the communities


def stretch(model: nn.SimilarityFlowGNN, data: Data, *, scale: float) -> float:
    """How much two states of the flow part in its norm at most, over one step with the anchor held fixed."""
    graph = model.adjacency(data.x, data.edge_index)
    field = model.conv.dynamics
    step = model.conv.step_size(graph)
    generator = torch.Generator().manual_seed(0)
    weight = field.norm_weight(graph).sqrt().unsqueeze(-1)  # type: ignore[union-attr]
    worst = 0.0
    for _ in range(100):
        # neighbours on either side of the fall of σ, and a change along the difference
        side = torch.randn(data.num_nodes, 1, dtype=torch.float64, generator=generator).sign()
        x = scale * side * torch.ones(1, 8, dtype=torch.float64) / 8**0.5 / 2
        y = x * (1 + 1e-4)
        moved = [state + step * field.field(state, graph, anchor=0 * x) for state in (x, y)]
        worst = max(worst, float((weight * (moved[1] - moved[0])).norm() / (weight * (y - x)).norm()))
    return worst


def test_the_provable_steps_contract_and_steeper_ones_do_not(data: Data) -> None:
    model = nn.build("robust-provable", 12, 3, hidden_channels=8, threshold=0.8).double()
    graph = model.adjacency(data.x, data.edge_index)  # type: ignore[operator]
    dynamics = model.conv.dynamics
    assert dynamics.certified
    assert float(dynamics.rate(graph)) == pytest.approx(0.001)  # type: ignore[union-attr,operator,arg-type]
    assert stretch(model, data, scale=2.0) <= 1.0  # type: ignore[arg-type]
    dynamics.sigma.kappa = 10 * dynamics.sigma.kappa  # type: ignore[union-attr,operator]
    assert stretch(model, data, scale=1.0) > 1.05  # type: ignore[arg-type]


def test_the_way_to_the_first_adjacency_is_not_certified(data: Data) -> None:
    bound = nn.build("robust-provable", 12, 3, hidden_channels=8).double().lipschitz(data.x, data.edge_index)  # type: ignore[operator]
    assert not bound.certified
    assert "A(0)" in bound.reason
    assert np.isfinite(bound.structure_here)


def test_of_nodes_alone_only_the_features_matter(data: Data) -> None:
    model = robust(data.num_features, 4).double().eval()
    everything = model(data.x, data.edge_index)
    model.use("nodes")
    alone = model(data.x, data.edge_index)
    assert torch.equal(alone, model(data.x, data.edge_index[:, :0]))
    with kernels.disabled():  # where the steps are taken, there is nothing to step to
        torch.testing.assert_close(alone, model(data.x, data.edge_index))
    assert not torch.allclose(alone, everything)
    model.use("edges")
    assert torch.equal(everything, model(data.x, data.edge_index))
    with pytest.raises(ValueError, match="mode must be one of edges, nodes, got 'graph'"):
        model.use("graph")
    with pytest.warns(DeprecationWarning, match=r"write model\.mode"):
        assert model.setting == model.mode == "edges"
    with pytest.warns(DeprecationWarning, match=r"write model\.modes"):
        assert model.settings == model.modes


def test_no_gradient_is_masked(data: Data) -> None:
    graph = copy.copy(data)
    graph.x = data.x.float()
    model = nn.build("robust", 12, 3, hidden_channels=8)
    fit(model, graph, epochs=30)
    result = attacks.get("whitebox-pgd", epochs=20).run(graph, attacks.Budget(flips=10), victim=model.eval())
    assert not result.provenance.get("warnings")
