from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from contractive_gnn.attacks import Budget, get, poison_and_evade
from contractive_gnn.nn import GCNClassifier
from contractive_gnn.training import evaluate
from contractive_gnn.training import fit as train

QUICK = {"epochs": 8, "fine_epochs": 2, "samples": 1, "swaps": 2}
POISON = {**QUICK, "train_iters": 30, "block_size": 500}


def fit(data: Data) -> nn.Module:
    model = GCNClassifier(data.x.shape[1], 3)
    train(model, data, seed=0, epochs=40)
    return model


def symbiotic(data: Data, **given):
    return poison_and_evade(
        given.pop("fit", fit), data, **{"poisoning_options": POISON, "evasion_options": QUICK, "flips": 30, **given}
    )


def test_is_never_weaker_than_either_alone(graph):
    found = symbiotic(graph)
    poisoned = get("meta-pgd", **POISON).run(graph, Budget(flips=30)).data
    frozen = fit(graph)
    evaded = get("whitebox-pgd", **QUICK).run(graph, Budget(flips=30), victim=frozen).data
    assert found.accuracies[0.0] == pytest.approx(evaluate(frozen, evaded, graph.test_mask))
    assert found.accuracies[1.0] <= evaluate(fit(poisoned), poisoned, graph.test_mask)
    assert found.accuracy == min(found.accuracies.values()) == found.accuracies[found.share]
    assert found.accuracy < evaluate(frozen, graph, graph.test_mask)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_two_share_the_budget(graph, share):
    found = symbiotic(graph, shares=(share,), flips=None, fraction=0.1)
    allowed = int(0.1 * graph.num_edges / 2)
    assert found.poisoning.n_flips <= int(share * allowed)
    assert 0 < found.n_flips <= allowed
    assert found.n_flips == found.poisoning.n_flips + found.evasion.n_flips
    assert evaluate(found.model, found.evasion.data, graph.test_mask) == pytest.approx(found.accuracy)
    again = fit(found.poisoning.data)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), found.model.parameters(), strict=True))


def test_other_attacks_and_targets(graph):
    nodes = graph.test_mask.nonzero().flatten()[:5]
    found = symbiotic(
        graph, shares=(0.5,), poisoning="grad", poisoning_options={"train_iters": 10}, targets=nodes, flips=6
    )
    assert found.poisoning.provenance["attack"] == "grad"
    assert found.accuracy in {0.0, 20.0, 40.0, 60.0, 80.0, 100.0}


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"shares": ()}, ValueError, "shares is empty"),
        ({"shares": (1.5,)}, ValueError, "each of shares must be at least 0 and at most 1"),
        ({"poisoning": "whitebox-pgd", "poisoning_options": None}, ValueError, "none before the training"),
        ({"evasion": "nettack", "evasion_options": None}, ValueError, "expected a global one on structure"),
        ({"evasion": "whitebox-pgd-features"}, ValueError, "expected a global one on structure"),
        ({"fit": lambda data: None, "shares": (0.0,)}, TypeError, "fit returns the trained torch.nn.Module"),
        ({"fit": "gcn"}, TypeError, "fit is a function"),
        ({"shares": 0.5}, TypeError, "shares are several numbers"),
        ({"targets": [1, 2]}, TypeError, "targets is an int64 tensor of node indices, given list"),
        ({"flips": None}, ValueError, "exactly one of flips, fraction"),
        ({"poisoning_options": {"epoch": 3}}, TypeError, "takes no epoch"),
    ],
)
def test_refuses(graph, given, error, text):
    with pytest.raises(error, match=text):
        symbiotic(graph, **given)


def test_refuses_a_graph_without_nodes_that_count(graph):
    graph.test_mask[:] = False
    with pytest.raises(ValueError, match="selects no node"):
        symbiotic(graph)


def test_a_graph_is_read_as_the_attacks_read_it(graph):
    expected = symbiotic(graph, shares=(0.5,))
    other = copy.copy(graph)
    other.test_mask = graph.test_mask.nonzero().flatten()
    found = symbiotic(other, shares=(0.5,))
    assert torch.equal(found.evasion.data.edge_index, expected.evasion.data.edge_index)
    assert found.accuracies == expected.accuracies
