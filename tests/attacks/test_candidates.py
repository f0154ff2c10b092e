from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from contractive_gnn.attacks import AttackResult, Budget, get
from contractive_gnn.attacks.candidates import candidates_of

NAMES = ["metattack", "grad"]


def run(name, data, **hyperparameters):
    labels = data.y
    attack = get(name, train_iters=20, self_training_labels=labels, **hyperparameters)
    return attack.run(data, Budget(flips=8))


def pairs(nodes: torch.Tensor) -> torch.Tensor:
    return nodes[:, None] & nodes


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_only_pairs_of_unlabelled_nodes(graph, name, compiled, monkeypatch):
    from contractive_gnn.attacks import factored_matrix, meta_gradient

    if compiled:
        pytest.importorskip("numba")
    for module in (meta_gradient, factored_matrix):
        monkeypatch.setattr(module, "numba_is_here", lambda: compiled)
    free, bound = run(name, graph), run(name, graph, candidates="unlabelled")
    assert graph.train_mask[free.edge_flips].any(), "without the limit, labelled nodes are touched"
    assert bound.n_flips == 8
    assert not graph.train_mask[bound.edge_flips].any()


def test_three_ways_to_say_the_same(graph):
    nodes = ~graph.train_mask
    word = run("metattack", graph, candidates="unlabelled").edge_flips
    assert torch.equal(word, run("metattack", graph, candidates=nodes).edge_flips)
    assert torch.equal(word, run("metattack", graph, candidates=pairs(nodes)).edge_flips)
    assert torch.equal(word, run("metattack-unlabelled", graph).edge_flips)


def test_a_limit_that_lets_the_best_flips_through_changes_nothing(graph):
    free = run("metattack", graph).edge_flips
    few = torch.zeros(90, 90, dtype=torch.bool)
    few[free[0], free[1]] = few[free[1], free[0]] = True
    assert torch.equal(run("metattack", graph, candidates=few).edge_flips, free)


def test_features_of_unlabelled_nodes_only(graph):
    free = run("metattack-features", graph)
    bound = run("metattack-features", graph, candidates="unlabelled")
    assert bound.feature_flips.shape[1] > 0
    assert not graph.train_mask[bound.feature_flips[0]].any()
    assert not torch.equal(free.feature_flips, bound.feature_flips)
    with pytest.raises(ValueError, match="mask over nodes"):
        run("metattack-features", graph, candidates=pairs(graph.test_mask))


def test_which_pairs_a_mask_stands_for(graph):
    nodes = torch.zeros(90, dtype=torch.bool)
    nodes[[2, 5, 7]] = True
    found = candidates_of(nodes, graph)
    assert found is not None
    some, others = np.array([2, 3]), np.array([5, 6])
    np.testing.assert_array_equal(found.may(some, others), [[True, False], [False, False]])
    np.testing.assert_array_equal(found.among(some, others), [True, False])
    both = candidates_of(pairs(nodes), graph)
    assert both is not None
    np.testing.assert_array_equal(both.may(some, others), found.may(some, others))
    np.testing.assert_array_equal(both.among(some, others), found.among(some, others))
    assert candidates_of("all", graph) is None


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ("labelled", ValueError, "candidates is 'all', 'unlabelled'.*given 'labelled'"),
        (torch.ones(90), TypeError, r"given torch.float32 \[90\]"),
        (torch.ones(3, 4, dtype=torch.bool), ValueError, "not square and symmetric"),
        (torch.ones(3, 3, dtype=torch.bool).tril(), ValueError, "not square and symmetric"),
        (3, TypeError, "given int"),
    ],
)
def test_refuses_what_is_no_limit(given, error, text):
    with pytest.raises(error, match=text):
        get("metattack", candidates=given)


def test_refuses_a_limit_that_fits_not(graph):
    with pytest.raises(ValueError, match="a mask over 3 nodes; this graph has 90"):
        run("metattack", graph, candidates=torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="leaves no pair"):
        run("metattack", graph, candidates=torch.zeros(90, dtype=torch.bool))


def test_the_provenance_keeps_the_digest_of_a_mask(graph, tmp_path):
    result = run("metattack", graph, candidates=~graph.train_mask)
    result.save(tmp_path / "attacked.npz")
    kept = AttackResult.load(tmp_path / "attacked.npz").provenance["params"]["candidates"]
    assert kept["shape"] == [90]
    assert kept["allowed"] == int((~graph.train_mask).sum())
    assert json.dumps(get("grad").params["candidates"]) == '"all"'


def test_a_run_leaves_the_mask_over_pairs_as_it_was_given(graph):
    attack = get("metattack", candidates=torch.ones(90, 90, dtype=torch.bool), train_iters=5)
    before = attack.params
    attack.run(graph, Budget(flips=1))
    assert attack.params == before
    assert before["candidates"]["allowed"] == 90 * 90
