from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn import datasets
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.graph import Graph
from contractive_gnn.nn import Ensemble, MLPClassifier, Similarity, build
from contractive_gnn.nn.ensemble import PROVABLE_MEMBERS, ROBUST_MEMBERS
from contractive_gnn.nn.sparse import compress
from contractive_gnn.training import evaluate, fit, predict

DEFAULTS = {"robust-ensemble": ROBUST_MEMBERS, "robust-provable-ensemble": PROVABLE_MEMBERS}


@pytest.fixture
def data() -> Data:
    return datasets.contextual_sbm(80, classes=2, features=8, average_degree=6, seed=1)


def test_it_answers_the_mean_of_its_members_probabilities(data: Data) -> None:
    torch.manual_seed(0)
    members = [MLPClassifier(8, 2, hidden_channels=4), build("gcn", 8, 2, hidden_channels=4)]
    model = Ensemble(members).eval()
    expected = sum(member(data.x, data.edge_index).softmax(dim=-1) for member in members) / 2
    torch.testing.assert_close(model(data.x, data.edge_index).exp(), expected)


def test_a_score_out_of_reach_of_a_probability_leaves_a_gradient() -> None:
    class Sure(nn.Module):
        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
            return torch.stack([x[:, 0], -x[:, 0]], dim=1)

    x = torch.tensor([[500.0]], requires_grad=True)
    scores = Ensemble([Sure(), Sure()])(x, torch.empty(2, 0, dtype=torch.long))
    torch.testing.assert_close(scores, torch.tensor([[0.0, -1000.0]]))
    (gradient,) = torch.autograd.grad(scores[0, 1], x)
    assert gradient.item() == pytest.approx(-2, rel=1e-3)


def test_each_member_is_fitted_as_if_it_were_alone(data: Data) -> None:
    model = build("ensemble", 8, 2, members=[{"name": "robust", "model": {"hidden_channels": 8}}, {"name": "mlp"}])
    fitted = fit(model, data, seed=3, epochs=5)
    for k, (name, options) in enumerate([("robust", {"hidden_channels": 8}), ("mlp", {})]):
        alone = build(name, 8, 2, **options)
        fit(alone, data, seed=2 * 3 + k, epochs=5)
        assert torch.equal(predict(alone, data), predict(model.members[k], data))
    assert fitted.val_accuracy == evaluate(model, data, data.val_mask)
    assert fitted.epochs == 15  # robust in two settings, and the perceptron


def test_members_of_one_model_start_from_other_weights_and_two_seeds_share_none(data: Data) -> None:
    scores = []
    for seed in (0, 1):
        model = build("ensemble", 8, 2, members=[{"name": "mlp"}] * 2)
        fit(model, data, seed=seed, epochs=1)
        scores += [predict(member, data) for member in model.members]
    assert all(not torch.equal(a, b) for i, a in enumerate(scores) for b in scores[:i])


def test_its_state_holds_what_the_members_found_out(data: Data) -> None:
    def made() -> nn.Module:
        return build("ensemble", 8, 2, members=[{"name": "robust", "model": {"calibrated": True}}, {"name": "mlp"}])

    model = made()
    fit(model, data, epochs=5, self_training=0.5)
    other = made()
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(predict(other, data), predict(model, data))


def test_a_member_that_trains_itself_gets_the_features_as_they_are(data: Data) -> None:
    class Itself(MLPClassifier):
        def fit_data(self, data: Data, *, seed: int) -> None:
            self.layout = data.x.layout

    data.x = (data.x > 2).float()
    model = Ensemble([Itself(8, 2, hidden_channels=4), MLPClassifier(8, 2, hidden_channels=4)])
    fit(model, data, epochs=2)
    assert compress(data.x).layout == torch.sparse_csr
    assert model.members[0].layout == torch.strided


def test_what_a_member_does_not_take_is_told_before_the_first_is_trained(data: Data) -> None:
    class Itself(MLPClassifier):
        def fit_data(self, data: Data, *, seed: int) -> None: ...

    model = Ensemble([MLPClassifier(8, 2), Itself(8, 2)])
    untouched = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="Itself trains itself"):
        fit(model, data, epochs=1, self_training=0.8)
    roles = Ensemble([build("csgnn", 8, 2), MLPClassifier(8, 2)])
    as_built = copy.deepcopy(roles.members[0].state_dict())
    with pytest.raises(ValueError, match="MLPClassifier has no roles"):
        fit(roles, data, epochs=1, lr=dict.fromkeys(("encoder", "node", "adjacency"), 0.1))
    assert all(torch.equal(value, as_built[name]) for name, value in roles.members[0].state_dict().items())
    assert all(torch.equal(value, untouched[name]) for name, value in model.state_dict().items())


def test_members_are_needed_and_have_one_form() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        Ensemble([])
    with pytest.raises(ValueError, match="cannot be an ensemble"):
        Ensemble([Ensemble([MLPClassifier(8, 2)])])
    for member in ("mlp", {"model": {}}, {"name": "mlp", "hidden_channels": 3}):
        with pytest.raises(ValueError, match="expected for each member"):
            build("ensemble", 8, 2, members=[member])
    with pytest.raises(ValueError, match="no model is called 'mpl'"):
        build("ensemble", 8, 2, members=[{"name": "mpl"}])


def test_members_share_the_cosines_of_one_graph(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    cosines = Similarity._cosines

    def counted(self: Similarity, x: Tensor, graph: Graph) -> Tensor:
        found.append(self.rounds)
        return cosines(self, x, graph)

    members = [{"name": "robust"}, {"name": "robust-provable", "model": {"power": 0.5}}] * 2
    other = {"name": "robust", "model": {"rounds": 1}}
    model = build("ensemble", 8, 2, members=[*members, other, {"name": "gcn"}]).double().eval()
    x = data.x.double()
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(80, 2, generator=generator, dtype=torch.float64).softmax(dim=1)
    model.members[2].similarity.calibrate(x, data.edge_index, probability=probability)
    assert model.members[2].similarity.calibration is not None
    weight = torch.rand(data.num_edges, generator=generator, dtype=torch.float64).requires_grad_()
    alone = [member(x, data.edge_index, weight).softmax(dim=-1) for member in model.members]
    expected = (sum(alone) / len(alone)).log()
    (slope,) = torch.autograd.grad(expected.square().sum(), weight)

    monkeypatch.setattr(Similarity, "_cosines", counted)
    for graph_weight in (weight, weight, weight.detach() / 2):  # a graph of autograd serves one backward pass alone
        found.clear()
        out = model(x, data.edge_index, graph_weight)
        assert found == [3, 1]
        if graph_weight is weight:
            torch.testing.assert_close(out, expected)
            torch.testing.assert_close(torch.autograd.grad(out.square().sum(), weight)[0], slope)
        else:
            assert not torch.allclose(out, expected)
    found.clear()
    for _ in range(2):
        model.members[0](x, data.edge_index, weight)
    assert found == [3, 3]


def test_what_is_not_the_same_graph_or_the_same_similarity_is_not_shared(data: Data) -> None:
    class Other(Similarity):
        def embedding(self, x: Tensor, graph: Graph) -> Tensor:
            return super().embedding(x.flip(1) ** 2, graph)

    class Masked(nn.Module):
        def __init__(self, inner: nn.Module, k: int) -> None:
            super().__init__()
            self.inner, self.k = inner, k

        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
            return self.inner(x * (torch.arange(8) != self.k), edge_index, edge_weight)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    other = build("robust", 8, 2)
    other.similarity = Other()
    members = [build("robust", 8, 2), other, *(Masked(build("robust", 8, 2), k) for k in range(6))]
    model = Ensemble(members).eval()
    for mode in (torch.no_grad, torch.inference_mode):
        for _ in range(2):
            with mode():
                alone = [copy.deepcopy(member)(data.x, data.edge_index).softmax(dim=-1) for member in model.members]
                out = model(data.x, data.edge_index)
            torch.testing.assert_close(out.exp(), sum(alone) / len(alone))


def test_what_was_asked_in_inference_mode_does_not_stand_in_the_way_of_a_gradient(data: Data) -> None:
    model = build("robust-ensemble", 8, 2).eval()
    with torch.inference_mode():
        model(data.x, data.edge_index)
    weight = torch.ones(data.num_edges, requires_grad=True)
    model(data.x, data.edge_index, weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.filterwarnings("ignore")
def test_it_is_traced_whole(data: Data) -> None:
    model = build("ensemble", 8, 2, members=[{"name": "mlp"}, {"name": "mlp"}]).eval()
    traced = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(traced(data.x, data.edge_index), model(data.x, data.edge_index))


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_preset_spells_the_default_members_out(name: str) -> None:
    assert load_preset(name, "unheard-of")["model"]["members"] == list(DEFAULTS[name])


@pytest.mark.parametrize("order", [2.0, math.inf])
@settings(max_examples=3)
@given(seed=st.integers(0, 2**31))
def test_mean_probabilities_move_half_as_far_as_the_scores(order: float, seed: int) -> None:
    class Given(nn.Module):
        def __init__(self, gain: Tensor) -> None:
            super().__init__()
            self.gain = gain

        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
            return x @ self.gain

    generator = torch.Generator().manual_seed(seed)
    edges = torch.empty(2, 0, dtype=torch.long)
    gains = [torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(3)]
    model = Ensemble([Given(gain) for gain in gains])
    bound = sum(float(torch.linalg.matrix_norm(gain.t(), order)) for gain in gains) / (2 * len(gains))

    def ratio(model: nn.Module, x: Tensor, moved: Tensor) -> Tensor:
        change = model(moved, edges).exp() - model(x, edges).exp()
        return torch.linalg.vector_norm(change, order, dim=1) / torch.linalg.vector_norm(moved - x, order, dim=1)

    x, moved = (torch.randn(500, 3, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    optimizer = torch.optim.Adam([x, moved], lr=0.05)
    for _ in range(200):  # ascent: somebody tries to break it
        optimizer.zero_grad()
        (-ratio(model, x, moved).sum()).backward()
        optimizer.step()
    assert float(ratio(model, x, moved).max()) <= bound * (1 + 1e-9)

    # at p = (½, ½) no smaller constant holds
    two = Ensemble([Given(torch.eye(2, dtype=torch.float64))] * 2)
    x = torch.zeros(1, 2, dtype=torch.float64)
    assert float(ratio(two, x, x + torch.tensor([[1e-4, -1e-4]]))) == pytest.approx(0.5, abs=1e-6)


def test_the_provable_members_bring_any_two_states_together(data: Data) -> None:
    """In the largest of their norms, which weigh a node by its degree on each one's own graph."""
    generator = torch.Generator().manual_seed(0)
    distances: list[list[float]] = []
    for member in build("robust-provable-ensemble", 8, 2).double().members:
        graph = member.adjacency(data.x.double(), data.edge_index)
        weight = member.conv.dynamics.norm_weight(graph)[:, None]
        x, y, anchor = (torch.randn(data.num_nodes, 64, generator=generator, dtype=torch.float64) for _ in range(3))
        distances.append([])
        for _ in range(30):
            distances[-1].append(float((weight * (x - y).square()).sum().sqrt()))
            step = member.conv.step_size(graph)
            x, y = (member.conv.dynamics.euler(z, graph, step=step, num_steps=1, anchor=anchor) for z in (x, y))
    largest = torch.tensor(distances).max(dim=0).values
    assert bool((largest.diff() < 0).all())
    assert largest[-1] < 0.5 * largest[0]
