"""One table of what works, and one of what is refused, for everything that stands on DeepRobust."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from contractive_gnn import deeprobust
from contractive_gnn.attacks import ATTACKS, AttackError, Budget, get
from contractive_gnn.attacks.base import undirected_edges
from contractive_gnn.attacks.deeprobust import DeepRobustAttack

TARGETS = torch.tensor([0, 7])

# name, hyperparameters that keep the test short, kind, scope, knowledge
WORKS: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("dice", {}, "structure", "global", "random"),
    ("pgd", {"epochs": 20}, "structure", "global", "transfer"),
    ("pgd", {"epochs": 20, "loss": "CW"}, "structure", "global", "transfer"),
    ("minmax", {"epochs": 20}, "structure", "global", "transfer"),
    ("metattack-deeprobust", {"train_iters": 10}, "structure", "global", "transfer"),
    ("metattack-deeprobust", {"train_iters": 10, "lambda_": 0.5}, "structure", "global", "transfer"),
    ("metattack-approx", {"train_iters": 10}, "structure", "global", "transfer"),
    ("metattack-features-deeprobust", {"train_iters": 10}, "features", "global", "transfer"),
    ("node-embedding", {"edit": "remove"}, "structure", "global", "transfer"),
    ("node-embedding", {"edit": "add", "candidates": 100}, "structure", "global", "transfer"),
    ("node-embedding", {"edit": "add-by-remove", "candidates": 100}, "structure", "global", "transfer"),
    ("rnd", {}, "structure", "targeted", "random"),
    ("fga", {}, "structure", "targeted", "transfer"),
    ("nettack-deeprobust", {}, "structure", "targeted", "transfer"),
    ("nettack-deeprobust", {"influencers": 2}, "structure", "targeted", "transfer"),
    ("nettack-features", {}, "features", "targeted", "transfer"),
    ("nettack-features", {"influencers": 2}, "features", "targeted", "transfer"),
    ("ig", {}, "structure", "targeted", "transfer"),
    ("ig-features", {}, "features", "targeted", "transfer"),
    ("sga", {}, "structure", "targeted", "transfer"),
]


def test_the_table_is_complete() -> None:
    adapters = {name for name, attack in ATTACKS.items() if issubclass(attack, DeepRobustAttack)}
    assert adapters | {"ig", "ig-features"} == {name for name, *_ in WORKS}


@pytest.mark.parametrize(
    ("name", "hyperparameters", "kind", "scope", "knowledge"),
    WORKS,
    ids=["-".join([name, *map(str, own.values())]) for name, own, *_ in WORKS],
)
def test_it_works(
    graph: Data,
    capfd: pytest.CaptureFixture[str],
    name: str,
    hyperparameters: dict[str, Any],
    kind: str,
    scope: str,
    knowledge: str,
) -> None:
    attack = get(name, seed=1, **hyperparameters)
    assert (attack.kind, attack.scope, attack.knowledge) == (kind, scope, knowledge)
    assert attack.params.items() >= hyperparameters.items()
    targets = TARGETS if scope == "targeted" else None
    before = graph.clone()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002

    result = attack.run(graph, Budget(flips=3), targets=targets)

    assert 1 <= result.n_flips <= (3 if targets is None else 3 * targets.numel())
    assert (result.edge_flips.numel() > 0) == (kind == "structure")
    assert (result.feature_flips.numel() > 0) == (kind == "features")
    assert result.provenance["versions"]["deeprobust"]
    assert all(torch.equal(before[key], graph[key]) for key in ("x", "edge_index", "y"))
    assert states[0] == random.getstate()
    assert states[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(states[2], torch.get_rng_state())
    assert capfd.readouterr() == ("", "")

    again = attack.run(graph, Budget(flips=3), targets=targets)
    assert torch.equal(again.edge_flips, result.edge_flips)
    assert torch.equal(again.feature_flips, result.feature_flips)


def continuous(data: Data) -> Data:
    data.x = data.x + 0.25
    return data


def isolated(data: Data) -> Data:
    data.edge_index = data.edge_index[:, (data.edge_index != 5).all(dim=0)]
    return data


def ring(data: Data) -> Data:
    n = int(data.num_nodes)
    data.edge_index = to_undirected(torch.stack([torch.arange(n), (torch.arange(n) + 1) % n]))
    return data


def as_is(data: Data) -> Data:
    return data


REFUSES: list[tuple[str, dict[str, Any], Callable[[Data], Data], int, type[Exception], str]] = [
    ("nettack-features", {}, continuous, 1, ValueError, "binarise x first"),
    ("ig-features", {}, continuous, 1, ValueError, "binarise x first"),
    ("metattack-features-deeprobust", {}, continuous, 1, ValueError, "binarise x first"),
    ("nettack-deeprobust", {}, isolated, 1, AttackError, r"1 have no edge \(node 5"),
    ("nettack-features", {}, isolated, 1, AttackError, r"1 have no edge \(node 5"),
    ("node-embedding", {}, isolated, 1, AttackError, r"1 have no edge \(node 5"),
    ("node-embedding", {}, as_is, 320, AttackError, "fewer than 320 edges can go"),
    ("node-embedding", {"edit": "add", "candidates": 5}, as_is, 6, AttackError, "candidates=5 non-edges"),
    ("dice", {}, ring, 1, ValueError, "0 edges within a class"),
    ("dice", {}, as_is, 4000, ValueError, "pairs of nodes of different classes to connect"),
    ("sga", {}, as_is, 60, AttackError, "needs, for 60 flips, 61 nodes"),
]


@pytest.mark.parametrize(("name", "hyperparameters", "change", "n_flips", "error", "says"), REFUSES)
def test_it_refuses(
    graph: Data,
    name: str,
    hyperparameters: dict[str, Any],
    change: Callable[[Data], Data],
    n_flips: int,
    error: type[Exception],
    says: str,
) -> None:
    attack = get(name, **hyperparameters)
    targets = TARGETS if attack.scope == "targeted" else None
    with pytest.raises(error, match=says):
        attack.run(change(graph), Budget(flips=n_flips), targets=targets)


@pytest.mark.parametrize(
    ("name", "hyperparameters", "error", "says"),
    [
        ("pgd", {"epochs": 0}, ValueError, "epochs must be at least 1"),
        ("pgd", {"epochs": 2.5}, TypeError, "epochs is a whole number"),
        ("minmax", {"loss": "MSE"}, ValueError, "loss is one of 'CE', 'CW'"),
        ("metattack-deeprobust", {"lambda_": 2}, ValueError, "lambda_ must be at least 0 and at most 1"),
        ("metattack-approx", {"lr": 0}, ValueError, "lr must be positive"),
        ("node-embedding", {"edit": "flip"}, ValueError, "edit is one of"),
        ("nettack-deeprobust", {"influencers": -1}, ValueError, "influencers must be at least 0"),
        ("nettack-deeprobust", {"cutoff": 0}, ValueError, "cutoff must be positive"),
        ("ig", {"steps": 0}, ValueError, "steps must be at least 1"),
        ("sga", {"hops": 0}, ValueError, "hops must be at least 1"),
    ],
)
def test_hyperparameters_that_make_no_sense_are_refused(
    name: str, hyperparameters: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        get(name, **hyperparameters)


def test_what_deeprobust_fails_with_is_passed_on(graph: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such luck\nand a page of details")

    monkeypatch.setattr(deeprobust.import_deeprobust("graph.targeted_attack").RND, "attack", fails)
    with pytest.raises(AttackError, match=r"attack 'rnd': DeepRobust failed with RuntimeError: no such luck$"):
        get("rnd").run(graph, Budget(flips=1), targets=TARGETS)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (lambda clean: np.triu(clean), "returned a directed graph"),
        (lambda clean: 2 * clean, "entries other than 0 and 1"),
        (lambda clean: clean + np.eye(90), "made 90 self-loops"),
        (lambda clean: 1 - clean - np.eye(90), "flips where 1 are allowed"),
    ],
)
def test_what_deeprobust_returns_is_checked(
    graph: Data, monkeypatch: pytest.MonkeyPatch, changed: Callable[[Any], Any], says: str
) -> None:
    def attack(self: Any, adjacency: Any, labels: Any, **_: Any) -> None:
        self.modified_adj = torch.from_numpy(changed(adjacency.toarray()))

    monkeypatch.setattr(deeprobust.import_deeprobust("graph.global_attack").DICE, "attack", attack)
    with pytest.raises(AttackError, match=says):
        get("dice").run(graph, Budget(flips=1))


@pytest.mark.parametrize(
    "name", ["fga", "nettack", "nettack-deeprobust", "ig", "sga", "nettack-features", "ig-features"]
)
def test_targets_lose_margin(graph: Data, name: str) -> None:
    torch.manual_seed(5)
    judge = deeprobust.train_gcn(graph)
    attacked = get(name).run(graph, Budget(flips=5), targets=TARGETS).data

    def margins(data: Data) -> Tensor:
        arrays = deeprobust.to_arrays(data)
        logits = judge.predict(arrays.features, arrays.adjacency).detach()[TARGETS]
        own = logits.gather(1, graph.y[TARGETS, None])
        return (own - logits.scatter(1, graph.y[TARGETS, None], -torch.inf).amax(dim=1, keepdim=True)).flatten()

    assert (margins(attacked) < margins(graph) - 0.1).all()


def test_metattack_hurts_more_than_chance(graph: Data) -> None:
    def retrained(data: Data) -> float:
        losses = []
        for seed in range(3):
            torch.manual_seed(seed)
            logits = deeprobust.train_gcn(data).predict().detach()
            losses.append(float(torch.nn.functional.nll_loss(logits[graph.test_mask], graph.y[graph.test_mask])))
        return float(np.mean(losses))

    by_metattack = retrained(get("metattack-deeprobust", train_iters=30).run(graph, Budget(flips=30)).data)
    by_chance = np.mean([retrained(get("random", seed=seed).run(graph, Budget(flips=30)).data) for seed in range(3)])
    assert by_metattack > by_chance


def test_integrated_gradients_choose_as_deeprobust_does(graph: Data) -> None:
    for name, attacked in (("ig", "structure"), ("ig-features", "features")):
        ours = get(name, seed=2, steps=4).run(graph, Budget(flips=4), targets=torch.tensor([3]))
        torch.manual_seed(2)
        surrogate = deeprobust.train_gcn(graph)
        arrays = deeprobust.to_arrays(graph)
        with deeprobust.mended():
            theirs = deeprobust.import_deeprobust("graph.targeted_attack").IGAttack(
                surrogate, 90, attack_structure=attacked == "structure", attack_features=attacked == "features"
            )
            theirs.attack(arrays.features, arrays.adjacency, arrays.labels, arrays.train, 3, 4, steps=4)
        if attacked == "structure":
            expected = np.argwhere(np.triu((theirs.modified_adj != arrays.adjacency).toarray()))
            assert ours.edge_flips.t().tolist() == expected.tolist()
        else:
            expected = np.argwhere((theirs.modified_features != arrays.features).toarray())
            assert ours.feature_flips.t().tolist() == expected.tolist()
        assert len(expected) == 4


def test_dice_deletes_internally_and_connects_externally(graph: Data) -> None:
    result = get("dice").run(graph, Budget(flips=40))
    present = {*map(tuple, undirected_edges(graph.edge_index).t().tolist())}
    for u, v in result.edge_flips.t().tolist():
        assert ((u, v) in present) == (graph.y[u] == graph.y[v])


def test_rnd_goes_on_with_unlabelled_nodes_but_makes_no_loop(graph: Data) -> None:
    target = int(graph.test_mask.nonzero()[0])
    result = get("rnd").run(graph, Budget(flips=89), targets=torch.tensor([target]))
    assert result.n_flips > int(graph.train_mask.sum())
    assert (result.edge_flips == target).any(dim=0).all()


def test_nettack_stops_where_no_edge_passes_the_test_on_degrees(graph: Data) -> None:
    hub = torch.stack([torch.zeros(89, dtype=torch.int64), torch.arange(1, 90)])
    graph.edge_index = to_undirected(hub)
    assert get("nettack-deeprobust").run(graph, Budget(flips=3), targets=torch.tensor([3])).n_flips == 0


def test_pgd_says_when_no_drawn_graph_fits(graph: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.random, "binomial", lambda _, shares: np.ones_like(shares))
    with pytest.raises(AttackError, match="each of the 20 graphs that DeepRobust drew at the end exceeds 3 flips"):
        get("pgd", epochs=1).run(graph, Budget(flips=3))
