from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn.attacks.base import flip_edges
from contractive_gnn.attacks.evolution.attacked_graph import CleanEdges
from contractive_gnn.attacks.evolution.population import crossover, random_pairs, tournament


def test_pairs_end_where_they_should_and_reach_every_other_node() -> None:
    ends = np.array([3, 7])
    u, v = np.divmod(random_pairs(4000, ends, 10, np.random.default_rng(0)), 10)
    assert bool((u < v).all())
    assert bool((np.isin(u, ends) | np.isin(v, ends)).all())
    assert {(3, k) for k in range(4, 10)} | {(k, 3) for k in range(3)} <= set(zip(u.tolist(), v.tolist(), strict=True))
    counts = np.bincount(random_pairs(20_000, np.array([0]), 10, np.random.default_rng(1)), minlength=10)[1:]
    assert counts.min() > 0.9 * 20_000 / 9


def test_the_fitter_one_has_more_children() -> None:
    fitness = np.arange(10.0)
    chosen = tournament(fitness, 100_000, 2, np.random.default_rng(0))
    share = np.bincount(chosen, minlength=10) / 100_000
    assert share == pytest.approx((2 * fitness + 1) / 100, abs=0.005)  # P(the largest of two draws)


@pytest.mark.parametrize("points", [1, 3, 30])
def test_children_share_what_their_parents_have(points: int) -> None:
    first, second = np.arange(40).reshape(4, 10), 100 + np.arange(40).reshape(4, 10)
    one, other = crossover(first, second, points, np.random.default_rng(0))
    assert np.array_equal(np.sort(np.stack([one, other]), axis=0), np.stack([first, second]))
    assert np.array_equal(one[:, 0], first[:, 0])
    assert bool((np.diff(one >= 100, axis=1).sum(axis=1) <= points).all())
    assert not np.array_equal(one, first)


def test_a_pair_of_one_flip_has_nothing_to_exchange() -> None:
    one, other = crossover(np.array([[1]]), np.array([[2]]), 3, np.random.default_rng(0))
    assert (one.tolist(), other.tolist()) == ([[1]], [[2]])


@pytest.mark.parametrize("seed", range(5))
def test_the_flipped_edges_are_those_of_the_base_class(graph: Data, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = random_pairs(60, np.arange(90), 90, rng)
    u, v = graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]][:, :20]
    codes = np.concatenate([codes, codes[:5], (u * 90 + v).numpy()])
    flips = torch.from_numpy(np.stack(np.divmod(np.unique(codes), 90)))
    found = CleanEdges(graph.edge_index, 90).flipped(codes)
    assert torch.equal(found, flip_edges(graph.edge_index, flips, num_nodes=90))


def test_a_graph_without_edges_gets_some() -> None:
    edges = CleanEdges(torch.empty(2, 0, dtype=torch.long), 4)
    assert edges.flipped(np.array([1, 11, 1])).tolist() == [[0, 1, 2, 3], [1, 0, 3, 2]]
    assert edges.flipped(np.array([], dtype=np.int64)).shape == (2, 0)
