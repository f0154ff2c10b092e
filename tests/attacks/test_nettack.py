"""Our Nettack against a graph that is flipped and multiplied out, and against DeepRobust's choices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric.data import Data
from torch_geometric.utils import degree, to_undirected

from contractive_gnn.attacks import Budget, get
from contractive_gnn.attacks.meta_gradient import normalise
from contractive_gnn.attacks.nettack import _Margins

N = 60


@pytest.mark.parametrize("end", ["the target", "a neighbour", "a stranger"])
def test_the_margin_after_a_flip_is_that_of_the_flipped_graph(make_graph: Callable[..., Data], end: str) -> None:
    data, target, label = make_graph(n=N), 7, 1
    row, column = data.edge_index.numpy()
    A = sp.csr_array((np.ones(row.size), (row, column)), shape=(N, N))
    z = np.random.default_rng(1).normal(size=(N, 3))
    margins = _Margins(A, z, target, label)
    linked = margins.linked(target)
    a = {"the target": target, "a neighbour": int(linked.argmax()), "a stranger": int(linked.argmin())}[end]
    assert a == target or linked[a] == (end == "a neighbour")
    others = np.setdiff1d(np.arange(N), [a, target])
    for b, after in zip(others, margins.after(np.full(others.size, a), others), strict=True):
        flipped = A.toarray()
        flipped[[a, b], [b, a]] = 1 - flipped[a, b]
        S, _ = normalise(sp.csr_array(flipped))
        logits = (S @ (S @ z))[target]
        assert after == pytest.approx(logits[label] - max(logits[0], logits[2]), abs=1e-13)


@pytest.mark.parametrize("influencers", [0, 2, 30])
@pytest.mark.parametrize("cutoff", [0.004, 0.05])
def test_flips_the_edges_that_deeprobust_flips(
    make_graph: Callable[..., Data], influencers: int, cutoff: float
) -> None:
    pytest.importorskip("deeprobust")
    data, targets = make_graph(n=N, seed=3), torch.tensor([0, 11, 25, 58])
    ours, theirs = (
        get(name, seed=4, influencers=influencers, cutoff=cutoff).run(data, Budget(flips=4), targets=targets)
        for name in ("nettack", "nettack-deeprobust")
    )
    assert theirs.n_flips > 0
    assert torch.equal(ours.edge_flips, theirs.edge_flips)


def test_keeps_the_last_edge_of_every_node(make_graph: Callable[..., Data]) -> None:
    data = make_graph(n=N, seed=6)
    data.edge_index = to_undirected(torch.stack([torch.arange(N), (torch.arange(N) + 1) % N]))
    result = get("nettack", cutoff=1e9).run(data, Budget(flips=5), targets=torch.tensor([30, 31, 32]))
    assert int(degree(result.data.edge_index[0], N).min()) == 1  # one more deletion was the best flip


def test_a_node_without_edges_is_no_obstacle(make_graph: Callable[..., Data]) -> None:
    data = make_graph(n=N, seed=6)
    data.edge_index = data.edge_index[:, (data.edge_index != N - 1).all(dim=0)]
    result = get("nettack").run(data, Budget(flips=2), targets=torch.tensor([N - 1, 4]))
    assert result.n_flips > 0


def test_stops_where_no_edge_passes_the_test_on_degrees(make_graph: Callable[..., Data]) -> None:
    data = make_graph(n=N)
    hub = torch.stack([torch.zeros(N - 1, dtype=torch.int64), torch.arange(1, N)])
    data.edge_index = to_undirected(hub)
    assert get("nettack").run(data, Budget(flips=3), targets=torch.tensor([3])).n_flips == 0


@pytest.mark.parametrize(("hyperparameters", "text"), [({"influencers": -1}, "influencers"), ({"cutoff": 0}, "cutoff")])
def test_refuses_hyperparameters(hyperparameters: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        get("nettack", **hyperparameters)
