from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn import datasets
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.nn import MLP, Ensemble, build
from contractive_gnn.nn.ensemble import PROVABLE_MEMBERS, ROBUST_MEMBERS
from contractive_gnn.training import evaluate, fit, predict

DEFAULTS = {"robust-ensemble": ROBUST_MEMBERS, "robust-provable-ensemble": PROVABLE_MEMBERS}


@pytest.fixture
def data() -> Data:
    return datasets.contextual_sbm(80, classes=2, features=8, average_degree=6, seed=1)


def test_it_answers_the_mean_of_its_members_probabilities(data: Data) -> None:
    torch.manual_seed(0)
    members = [MLP(8, 2, hidden=4), build("gcn", 8, 2, hidden=4)]
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
    model = build("ensemble", 8, 2, members=[{"name": "robust", "model": {"hidden": 8}}, {"name": "mlp"}])
    fitted = fit(model, data, seed=3, epochs=5)
    for k, (name, options) in enumerate([("robust", {"hidden": 8}), ("mlp", {})]):
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


def test_members_are_needed_and_have_one_form() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        Ensemble([])
    for member in ("mlp", {"model": {}}, {"name": "mlp", "hidden": 3}):
        with pytest.raises(ValueError, match="expected for each member"):
            build("ensemble", 8, 2, members=[member])
    with pytest.raises(ValueError, match="unknown model 'mpl'"):
        build("ensemble", 8, 2, members=[{"name": "mpl"}])


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_preset_spells_the_default_members_out(name: str) -> None:
    assert load_preset(name, "unheard-of")["model"]["members"] == list(DEFAULTS[name])


def test_every_member_of_the_provable_ensemble_contracts_on_its_own_graph(data: Data) -> None:
    for member in build("robust-provable-ensemble", 8, 2).members:
        graph = member.adjacency(data.x, data.edge_index)
        step = float(member.conv.step_size(graph))
        assert step == pytest.approx(1 / 1.1)
        assert float(member.conv.dynamics.rate(graph)) > 0
        assert float(member.conv.dynamics.lipschitz(graph, step)) < 1
