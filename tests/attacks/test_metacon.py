from __future__ import annotations

import pytest
import torch

from contractive_gnn.attacks import Budget, get

NAMES = ["metacon-s", "metacon-d"]


def run(name, data, **hyperparameters):
    attack = get(name, **{"train_iters": 20, "self_training_labels": data.y, **hyperparameters})
    return attack.run(data, Budget(flips=6)).edge_flips


@pytest.mark.parametrize("name", NAMES)
def test_keeps_to_its_seed_and_budget(graph, name):
    options = {"weight": 1.0, "drop": 0.5, "contrast_nodes": 20}
    flips = run(name, graph, **options)
    assert flips.shape[1] == 6
    assert torch.equal(flips, run(name, graph, **options))
    assert not torch.equal(flips, run(name, graph, seed=1, **options))


@pytest.mark.parametrize("name", NAMES)
def test_the_term_changes_the_flips(graph, name):
    options = {"contrast_nodes": None, "drop": 0.0}
    weight = 5.0 if name == "metacon-s" else 1.0  # the other diverges
    strong = run(name, graph, weight=weight, **options)
    assert not torch.equal(strong, run(name, graph, weight=0.0, **options))
    assert not torch.equal(strong, run(name, graph, weight=weight, contrast_nodes=20, drop=0.0))
    assert not torch.equal(strong, run(name, graph, weight=weight, contrast_nodes=None, drop=0.5))


@pytest.mark.parametrize("name", NAMES)
def test_with_the_loss_of_grad_and_between_unlabelled_nodes(graph, name):
    flips = run(name, graph, outer_loss="probability", candidates="unlabelled")
    assert not graph.train_mask[flips].any()
    assert not torch.equal(flips, run(name, graph, candidates="unlabelled"))


def test_the_two_differ(graph):
    assert not torch.equal(run("metacon-s", graph, weight=1.0), run("metacon-d", graph, weight=1.0))


@pytest.mark.parametrize(
    ("hyperparameters", "text"),
    [
        ({"weight": -1.0}, "weight must be at least 0"),
        ({"drop": 1.0}, "drop must be at least 0 and below 1"),
        ({"contrast_nodes": 1}, "contrast_nodes must be at least 2"),
        ({"outer_loss": "margin"}, "outer_loss is one of 'cross-entropy', 'probability'"),
    ],
)
def test_refuses_hyperparameters(hyperparameters, text):
    with pytest.raises(ValueError, match=text):
        get("metacon-s", **hyperparameters)


def test_refuses_a_graph_with_nothing_to_compare(graph):
    graph.val_mask[:] = graph.test_mask[:] = False
    graph.test_mask[3] = True
    with pytest.raises(ValueError, match="they select 1, give at least 2"):
        run("metacon-s", graph)
