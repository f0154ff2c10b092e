from __future__ import annotations

import numpy as np
import pytest
import torch

from contractive_gnn.attacks.likelihood_ratio import DegreeTest
from contractive_gnn.deeprobust import import_deeprobust


def random_adjacency(n: int, p: float, seed: int) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).random((n, n)) < p, 1)
    return (upper | upper.T).astype(float)


def ratio(clean: np.ndarray, current: np.ndarray) -> float:
    """DeepRobust's statistic, in float64, of two adjacency matrices."""
    likelihood = import_deeprobust("graph.utils").degree_sequence_log_likelihood
    before, after = torch.from_numpy(clean.sum(axis=0)), torch.from_numpy(current.sum(axis=0))
    d_min = torch.tensor(2.0, dtype=torch.float64)
    together, first, second = (float(likelihood(d, d_min)[0]) for d in (torch.cat([before, after]), before, after))
    return -2 * together + 2 * (first + second)


def decisions(test: DegreeTest, adjacency: np.ndarray) -> np.ndarray:
    n = adjacency.shape[0]
    allowed = test.may_add(slice(0, n), slice(0, n)).copy()
    u, v = adjacency.nonzero()
    allowed[u, v] = test.may_remove(u, v)
    return allowed


@pytest.mark.parametrize("p", [0.03, 0.1])  # with, and almost without, nodes of degree below 2
def test_decides_as_refitting_the_flipped_graph_does(p):
    clean = random_adjacency(40, p, 0)
    current = clean.copy()
    rng = np.random.default_rng(1)
    for u, v in rng.choice(40, (6, 2), replace=True):
        if u != v:
            current[u, v] = current[v, u] = 1 - current[u, v]
    ratios = np.full((40, 40), np.nan)
    for u in range(40):
        for v in range(u):
            flipped = current.copy()
            flipped[u, v] = flipped[v, u] = 1 - flipped[u, v]
            ratios[u, v] = ratio(clean, flipped)
    lower = np.tril_indices(40, -1)
    # halfway between two values, so that no pair is decided by rounding
    values = np.unique(ratios[lower].round(9))
    for k in (len(values) // 4, len(values) // 2):
        cutoff = (values[k] + values[k + 1]) / 2
        test = DegreeTest(clean.sum(axis=0), current.sum(axis=0), cutoff=cutoff)
        np.testing.assert_array_equal(decisions(test, current)[lower], ratios[lower] < cutoff)


def test_allows_everything_or_nothing_at_extreme_cutoffs():
    adjacency = random_adjacency(30, 0.1, 2)
    degrees = adjacency.sum(axis=0)
    assert decisions(DegreeTest(degrees, degrees, cutoff=np.inf), adjacency).all()
    assert not decisions(DegreeTest(degrees, degrees, cutoff=-1.0), adjacency).any()


def test_a_graph_without_degrees_above_one_has_no_fit_and_no_flips():
    degrees = np.array([1.0, 1.0, 0.0, 0.0])
    assert not DegreeTest(degrees, degrees, cutoff=0.004).may_add(slice(2, 4), slice(2, 4)).any()
