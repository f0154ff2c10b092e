from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn.certify import FlipBudget, certify
from contractive_gnn.certify.attack import besiege
from contractive_gnn.certify.pagerank import certify_pagerank
from contractive_gnn.certify.training import fit_certified
from contractive_gnn.nn import FlowGNN, linf_diffusion


@pytest.fixture(scope="module")
def linear(data: Data) -> FlowGNN:
    model = linf_diffusion(8, 3, hidden=16, num_steps=5, mu=0.5, sigma="identity")
    fit_certified(model, data, flips=FlipBudget.uniform(1, 120), epochs=40, every=10)
    return model


def test_it_is_tighter_than_the_box_and_no_attack_breaks_it(data: Data, linear: FlowGNN) -> None:
    budget = FlipBudget.uniform(1, 120)
    margins = certify_pagerank(linear, data.x, data.edge_index, flips=budget)
    box = certify(linear, data.x, data.edge_index, flips=budget)
    assert torch.equal(margins.prediction, box.prediction)
    assert bool((margins.margin > box.margin - 1e-6).all())
    assert int(margins.certified.sum()) > int(box.certified.sum()) > 0
    siege = besiege(linear, data.x, data.edge_index, margins, flips=budget, predictions=30_000)
    assert siege.broken == 0
    assert siege.least_margin >= 0
    assert bool(siege.changed.any())


def test_without_flips_it_is_the_margin_itself(data: Data, linear: FlowGNN) -> None:
    found = certify_pagerank(linear, data.x, data.edge_index, flips=FlipBudget.uniform(0, 120))
    top = linear(data.x, data.edge_index).topk(2, dim=1).values
    torch.testing.assert_close(found.margin.float(), top[:, 0] - top[:, 1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("arguments", [{"sigma": "huber"}, {"sigma": "identity", "space": "hidden"}])
def test_other_models_are_refused(data: Data, arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="PageRank certificate needs"):
        certify_pagerank(
            linf_diffusion(8, 3, **arguments),  # type: ignore[arg-type]
            data.x, data.edge_index, flips=FlipBudget.uniform(1, 120),
        )  # fmt: skip
