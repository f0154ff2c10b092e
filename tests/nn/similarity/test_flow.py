"""The models on the similarity adjacency: invariances, and the contraction claimed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
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


def test_what_a_frozen_encoder_makes_of_the_features_is_kept_until_something_changes(data: Data) -> None:
    model, x = robust(12, 3, hidden_channels=8).double().eval().requires_grad_(False), data.x.clone()
    kept = model._encoded(x)
    assert model._encoded(x) is kept
    model.encoder.weight.data.mul_(2)  # of which torch takes no count
    twice = model._encoded(x)
    assert not torch.equal(twice, kept)
    model.encoder.bias = torch.nn.Parameter(torch.ones(8).double(), requires_grad=False)
    moved = model._encoded(x)
    torch.testing.assert_close(moved, model.encoder(x).relu())
    assert not torch.equal(moved, twice)
    expected = moved.clone()
    moved.zero_()  # by whom it was given to
    assert torch.equal(model._encoded(x), expected)
    x[0] = x[1]
    assert torch.equal(model._encoded(x), model.encoder(x).relu())
    called: list[int] = []
    model.encoder.register_forward_hook(lambda *_: called.append(1))
    for _ in range(2):
        model._encoded(x)
    assert called == [1, 1]


def test_an_encoder_that_learns_or_drops_is_asked_each_time(data: Data) -> None:
    model = robust(12, 3, hidden_channels=8, dropout=0.5).double().eval()
    assert model._encoded(data.x) is not model._encoded(data.x)
    (slope,) = torch.autograd.grad(model._encoded(data.x).sum(), model.encoder.bias)
    assert bool((slope != 0).any())
    model.requires_grad_(False).train()
    assert not torch.equal(model._encoded(data.x), model._encoded(data.x))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_edges_that_the_similarity_rules_out_are_left_out_of_a_gradient_alone(
    data: Data, name: str, calibrated: bool, power: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = nn.build(name, 12, 3, hidden_channels=8, rank=5, power=power).double().eval().requires_grad_(False)
    if calibrated:
        probability = torch.nn.functional.one_hot(data.y, 3).double()
        model.similarity.calibrate(data.x, data.edge_index, probability=probability)  # type: ignore[union-attr]
    weight = (torch.arange(data.num_edges) % 3).double().requires_grad_()  # a third of them is absent
    left: list[int] = []
    conv = type(model.conv).forward

    def counted(self: nn.FlowConv, x: Tensor, edge_index: Tensor, *rest: Tensor | None) -> Tensor:
        left.append(edge_index.shape[1])
        return conv(self, x, edge_index, *rest)

    monkeypatch.setattr(nn.FlowConv, "forward", counted)
    scores = model(data.x, data.edge_index, weight)
    upstream = torch.rand(scores.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (slope,) = torch.autograd.grad(scores, weight, upstream)
    monkeypatch.setattr(type(model), "_in_one_piece", lambda *_: False)
    whole = model(data.x, data.edge_index, weight)
    (expected,) = torch.autograd.grad(whole, weight, upstream)
    torch.testing.assert_close(scores, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(slope, expected, rtol=1e-9, atol=1e-12)
    assert left[1] == data.num_edges
    assert left[0] == left[1] if calibrated else left[0] < left[1]


@pytest.mark.parametrize("part", ["similarity", "conv"])
def test_who_looks_on_sees_every_edge(data: Data, part: str) -> None:
    model = robust(12, 3, hidden_channels=8, rank=5).double().eval()
    seen: list[int] = []
    model.get_submodule(part).register_forward_hook(lambda *_: seen.append(1))
    weight = torch.ones(data.num_edges, dtype=torch.float64, requires_grad=True)
    edges = model._pulling(data.x, data.edge_index, weight).edge_index
    assert torch.equal(edges, data.edge_index)
    model(data.x, data.edge_index, weight)
    assert seen


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
