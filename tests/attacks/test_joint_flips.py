"""Edges and words under one budget."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn.attacks import AttackError, AttackResult, Budget, get
from contractive_gnn.attacks.base import undirected_edges
from contractive_gnn.attacks.joint_flips import JointFlips
from contractive_gnn.attacks.whitebox import EdgeFlips, FeatureFlips
from contractive_gnn.nn import GCNClassifier
from contractive_gnn.training import fit

QUICK: dict[str, Any] = {"epochs": 15, "fine_epochs": 5, "samples": 3, "swaps": 5}


@pytest.fixture
def victim(graph: Data) -> GCNClassifier:
    model = GCNClassifier(40, 3)
    fit(model, graph, epochs=30)
    return model.eval()


def joint(graph: Data, victim: GCNClassifier, words_per_edge: int) -> JointFlips:
    edges = EdgeFlips(victim, graph.x, undirected_edges(graph.edge_index), candidates=200)
    return JointFlips(edges, FeatureFlips(victim, graph.x, graph.edge_index), words_per_edge)


def errors(result: AttackResult) -> int:
    return int(result.provenance["params"]["diagnosis"]["errors"]["found"])


def test_flips_done_are_the_graph_of_the_base_class(graph: Data, victim: GCNClassifier) -> None:
    flips = joint(graph, victim, 3)
    torch.manual_seed(0)
    chosen = flips.draw(10)
    assert int(chosen[: flips.edges.size].sum()) == 5
    assert int(chosen[flips.edges.size :].sum()) == 15
    assert torch.allclose(flips.done(chosen), flips.relaxed(chosen.float()), atol=1e-5)
    proposal = flips.perturbation(chosen)
    x = graph.x.clone()
    row, column = proposal.feature_flips
    x[row, column] = 1 - x[row, column]
    alone = EdgeFlips(victim, x, undirected_edges(graph.edge_index), block=proposal.edge_flips)
    assert torch.allclose(flips.done(chosen), alone.done(alone.among(proposal.edge_flips)), atol=1e-5)


@pytest.mark.parametrize("words_per_edge", [1, 4])
def test_the_projection_and_the_rounding_keep_the_budget(
    graph: Data, victim: GCNClassifier, words_per_edge: int
) -> None:
    flips = joint(graph, victim, words_per_edge)
    p = torch.randn(flips.size, generator=torch.Generator().manual_seed(0))
    for budget in (1, 7, 100):
        q = flips.project(p, budget)
        assert 0.99 * budget <= float((flips.cost * q).sum()) <= budget * (1 + 1e-6)
        chosen = flips.largest(q, budget)
        edges = int(chosen[: flips.edges.size].sum())
        words = int(chosen[flips.edges.size :].sum())
        assert edges + -(-words // words_per_edge) <= budget
        assert float(q[chosen].min()) >= float(q[~chosen].max())
    assert torch.equal(flips.project(p, 10**6), p.clamp(0, 1))


@pytest.mark.parametrize("words_per_edge", [1, 5])
def test_both_together_are_no_weaker_than_either(graph: Data, victim: GCNClassifier, words_per_edge: int) -> None:
    options = {**QUICK, "words_per_edge": words_per_edge}
    result = get("joint-pgd", **options).run(graph, Budget(flips=6), victim=victim)
    edges, words = result.edge_flips.shape[1], result.feature_flips.shape[1]
    assert edges + -(-words // words_per_edge) <= 6
    of_words = get("whitebox-pgd-features", **QUICK).run(graph, Budget(flips=6 * words_per_edge), victim=victim)
    of_edges = get("whitebox-pgd", **QUICK).run(graph, Budget(flips=6), victim=victim)
    assert errors(result) >= max(errors(of_words), errors(of_edges)) - 2  # other random numbers
    clean = result.provenance["params"]["diagnosis"]["errors"]["clean"]
    assert errors(result) > clean


def test_a_price_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="words_per_edge must be at least 1"):
        get("joint-pgd", words_per_edge=0)


def test_features_that_are_not_binary_are_refused_before_the_search(graph: Data, victim: GCNClassifier) -> None:
    graph.x = graph.x + 0.5
    with pytest.raises(AttackError, match="flips binary features"):
        get("joint-pgd", **QUICK).run(graph, Budget(flips=3), victim=victim)
