from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn.certificates import FlipBudget, certify, encoder, pagerank
from contractive_gnn.certificates.attack import run
from contractive_gnn.certificates.pagerank import certify_pagerank
from contractive_gnn.certificates.training import fit_certified
from contractive_gnn.nn import FlowGNN, linf_diffusion


@pytest.fixture(scope="module")
def linear(data: Data) -> FlowGNN:
    model = linf_diffusion(8, 3, hidden_channels=16, num_layers=5, mu=0.5, activation="identity")
    fit_certified(model, data, flips=FlipBudget.uniform(1, 120), epochs=40, every=10)
    return model


def test_it_is_tighter_than_the_box_and_no_attack_breaks_it(data: Data, linear: FlowGNN) -> None:
    budget = FlipBudget.uniform(1, 120)
    margins = certify_pagerank(linear, data.x, data.edge_index, flips=budget)
    box = certify(linear, data.x, data.edge_index, flips=budget)
    assert torch.equal(margins.prediction, box.prediction)
    assert bool((margins.margin > box.margin - 1e-6).all())
    assert int(margins.certified.sum()) > int(box.certified.sum()) > 0
    attacked = run(linear, data.x, data.edge_index, margins, flips=budget, predictions=30_000)
    assert attacked.broken == 0
    assert attacked.least_margin >= 0
    assert bool(attacked.changed.any())


def test_without_flips_it_is_the_margin_itself(data: Data, linear: FlowGNN) -> None:
    found = certify_pagerank(linear, data.x, data.edge_index, flips=FlipBudget.uniform(0, 120))
    top = linear(data.x, data.edge_index).topk(2, dim=1).values
    torch.testing.assert_close(found.margin.float(), top[:, 0] - top[:, 1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("arguments", [{"activation": "huber"}, {"activation": "identity", "space": "hidden"}])
def test_other_models_are_refused(data: Data, arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="PageRank certificate needs"):
        certify_pagerank(
            linf_diffusion(8, 3, **arguments),  # type: ignore[arg-type]
            data.x, data.edge_index, flips=FlipBudget.uniform(1, 120),
        )  # fmt: skip


def large_scores(seed: int) -> tuple[FlowGNN, torch.Tensor, torch.Tensor]:
    """A linear diffusion of class scores of size 10,000 that hardly differ."""
    torch.manual_seed(seed)
    model = linf_diffusion(5, 3, hidden_channels=8, num_layers=4, mu=0.3, activation="identity").eval()
    with torch.no_grad():
        model.decoder.weight.mul_(1e-3)
        model.decoder.bias.add_(1e4)
    return model, torch.rand(6, 5), torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])


def test_rounding_errors_follow_the_size_of_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    correct, wrong = pagerank.step_rounding, 0
    for seed in range(5):
        model, x, edge_index = large_scores(seed)
        with torch.no_grad():
            top = model(x, edge_index).double().topk(2, dim=1).values
        found = certify_pagerank(model, x, edge_index, flips=FlipBudget.uniform(0, 6))
        assert not found.reason
        assert bool((found.margin <= top[:, 0] - top[:, 1]).all())
    # scaled by the differences of the scores, as if these alone were rounded, the check against the model fails
    monkeypatch.setattr(pagerank, "step_rounding", lambda size, *rest, **more: correct(1e-7 * size, *rest, **more))
    monkeypatch.setattr(
        encoder, "affine_rounding", lambda weight, bias, size, *_: size.new_full((len(size), len(weight)), 1e-9)
    )
    for seed in range(5):
        model, x, edge_index = large_scores(seed)
        wrong += bool(certify_pagerank(model, x, edge_index, flips=FlipBudget.uniform(0, 6)).reason)
    assert wrong > 0


def test_it_checks_what_comes_in_and_puts_the_mode_back(data: Data, linear: FlowGNN) -> None:
    linear.train()
    certify_pagerank(linear, data.x, data.edge_index, flips=FlipBudget.uniform(1, 120))
    assert linear.training
    linear.eval()
    with pytest.raises(ValueError, match="budget is for 119 nodes"):
        certify_pagerank(linear, data.x, data.edge_index, flips=FlipBudget.uniform(1, 119))
    with pytest.raises(ValueError, match="directed"):
        certify_pagerank(linear, data.x, data.edge_index[:, 1:], flips=FlipBudget.uniform(1, 120))
