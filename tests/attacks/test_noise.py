from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn.attacks import Budget, get
from contractive_gnn.attacks.base import undirected_edges
from contractive_gnn.datasets import add_random_edges


@pytest.mark.parametrize(("edit", "change"), [("add", 20), ("remove", -20), ("flip", None)])
def test_it_edits_as_many_edges_as_asked(graph: Data, edit: str, change: int | None) -> None:
    before = undirected_edges(graph.edge_index).shape[1]
    result = get("random", edit=edit, seed=1).run(graph, Budget(flips=20))
    assert result.n_flips == 20
    if change is not None:
        assert undirected_edges(result.data.edge_index).shape[1] == before + change
    again = get("random", edit=edit, seed=1).run(graph, Budget(flips=20))
    assert torch.equal(result.edge_flips, again.edge_flips)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_added_edges_are_those_of_the_data_sets_noise(graph: Data, fraction: float) -> None:
    result = get("random", seed=3).run(graph, Budget(fraction=fraction))
    noisy = add_random_edges(graph, fraction=fraction, seed=3)
    assert torch.equal(result.data.edge_index, noisy.edge_index)
    assert result.n_flips == round(fraction * undirected_edges(graph.edge_index).shape[1])


def test_the_whole_range_can_be_drawn(graph: Data) -> None:
    pairs, edges = 90 * 89 // 2, undirected_edges(graph.edge_index).shape[1]
    complete = get("random", edit="add").run(graph, Budget(flips=pairs - edges)).data
    assert undirected_edges(complete.edge_index).shape[1] == pairs
    empty = get("random", edit="remove").run(graph, Budget(fraction=1.0)).data
    assert empty.edge_index.shape == (2, 0)
    inverted = get("random", edit="flip").run(graph, Budget(flips=pairs)).data
    assert undirected_edges(inverted.edge_index).shape[1] == pairs - edges
    with pytest.raises(ValueError, match=f"cannot remove {edges + 1} edges: only {edges} pairs"):
        get("random", edit="remove").run(graph, Budget(flips=edges + 1))
    with pytest.raises(ValueError, match="edit is one of 'add', 'remove', 'flip', given 'move'"):
        get("random", edit="move")


def test_added_edges_are_uniform(graph: Data) -> None:
    # a sixth of the non-edges, many times: each must come about equally often
    drawn = torch.zeros(90, 90)
    for seed in range(300):
        u, v = get("random", seed=seed).run(graph, Budget(flips=600)).edge_flips
        drawn[u, v] += 1
    absent = torch.triu(torch.ones(90, 90), diagonal=1).bool()
    absent[graph.edge_index[0], graph.edge_index[1]] = False
    share = 600 / int(absent.sum())
    assert drawn[~absent].sum() == 0
    deviations = (drawn[absent] - 300 * share) / (300 * share * (1 - share)) ** 0.5
    assert deviations.abs().max() < 5
    assert 0.9 < float(deviations.std()) < 1.1


def test_noisy_features_are_as_many_as_asked_and_within_the_radius(graph: Data) -> None:
    binary = graph.clone()
    binary.x = (graph.x > 0).to(graph.x)
    for name in ("flip-features", "gaussian-features"):
        result = get(name, seed=1).run(binary, Budget(flips=30))
        assert result.n_flips == 30
        assert torch.equal(result.data.edge_index, binary.edge_index)
        assert torch.equal(result.data.x, get(name, seed=1).run(binary, Budget(flips=30)).data.x)
        assert not torch.equal(result.data.x, get(name, seed=2).run(binary, Budget(flips=30)).data.x)
        with pytest.raises(ValueError, match=f"cannot change {binary.x.numel() + 1} entries"):
            get(name).run(binary, Budget(flips=binary.x.numel() + 1))
    flipped = get("flip-features").run(binary, Budget(flips=binary.x.numel())).data.x
    assert torch.equal(flipped, 1 - binary.x)
    noise = get("gaussian-features", scale=0.5).run(binary, Budget(flips=binary.x.numel())).data.x - binary.x
    assert float(noise.abs().max()) <= 1.5 + 1e-6
    assert 0.4 < float(noise.std()) < 0.6
    with pytest.raises(ValueError, match="scale must be positive and finite, got 0"):
        get("gaussian-features", scale=0)
