from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch_geometric.data import Data

from contractive_gnn.datasets import InvalidGraphError, UnknownSplitError, contextual_sbm, digits, load, validate


def homophily(data: Data) -> float:
    row, col = data.edge_index
    return float((data.y[row] == data.y[col]).double().mean())


def test_digits_is_scikit_learns_and_follows_the_protocol() -> None:
    data = digits()
    assert (data.num_nodes, data.num_features, data.name, data.split) == (1797, 64, "digits", "random")
    assert data.x.unique().tolist() == [0.0, 1.0]
    assert data.y.unique().tolist() == list(range(10))
    assert data.is_coalesced()
    assert homophily(data) > 0.95
    validate(data)


@pytest.mark.parametrize("k", [1, 3, 20])
def test_digits_joins_each_image_to_its_k_nearest_and_no_others(k: int) -> None:
    data = digits(k=k)
    images = torch.from_numpy(load_digits().data)
    distance = torch.cdist(images, images).fill_diagonal_(torch.inf)
    reach = distance.topk(k, largest=False).values[:, -1]  # how far each image's k-th nearest is
    row, col = data.edge_index
    # An edge is among the k nearest of one of its ends; ties may fall either way.
    assert bool((distance[row, col] <= torch.maximum(reach[row], reach[col]) + 1e-9).all())
    nearer = (distance < reach[:, None] - 1e-9).nonzero().tolist()
    assert {tuple(pair) for pair in nearer} <= {tuple(pair) for pair in data.edge_index.T.tolist()}
    assert int(torch.bincount(row, minlength=1797).min()) >= k


@pytest.mark.parametrize("k", [0, 1797, 2.0, True])
def test_digits_refuses_k_out_of_range(k: int) -> None:
    with pytest.raises(InvalidGraphError, match="expected an integer from 1 to 1796"):
        digits(k=k)


@pytest.mark.parametrize("name", ["digits", "csbm", "dc-sbm"])
def test_embedded_graphs_are_the_same_each_time_but_for_the_split(name: str) -> None:
    one, again, other = load(name, split_seed=0), load(name, split_seed=0), load(name, split_seed=1)
    for key in ("x", "y", "edge_index"):
        assert torch.equal(one[key], other[key])
    assert torch.equal(one.train_mask, again.train_mask)
    assert not torch.equal(one.train_mask, other.train_mask)
    assert load(name, split="random").split == load(name).split == "random"


@given(
    n=st.integers(60, 160),
    classes=st.integers(2, 3),
    average_degree=st.floats(0.5, 8),
    share=st.floats(0, 1),
    signal=st.floats(0, 4),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_csbm_follows_the_protocol_whatever_its_dials(
    n: int, classes: int, average_degree: float, share: float, signal: float, seed: int
) -> None:
    dials: dict[str, Any] = {
        "classes": classes, "features": 5, "average_degree": average_degree, "homophily": share,
        "feature_signal": signal, "seed": seed,
    }  # fmt: skip
    data = contextual_sbm(n, **dials)
    validate(data)
    assert data.is_coalesced()
    assert (data.num_nodes, data.num_features, data.name) == (n, 5, "csbm")
    counts = torch.bincount(data.y, minlength=classes)
    assert int(counts.max() - counts.min()) <= 1
    again = contextual_sbm(n, **dials)
    assert all(torch.equal(data[key], again[key]) for key in ("x", "y", "edge_index", "train_mask"))


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_csbm_homophily_one_and_zero_are_exact(seed: int) -> None:
    assert homophily(contextual_sbm(100, homophily=1.0, seed=seed)) == 1.0
    assert homophily(contextual_sbm(100, homophily=0.0, seed=seed)) == 0.0


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_csbm_has_the_degree_and_the_homophily_asked_for(share: float) -> None:
    data = contextual_sbm(4000, classes=3, average_degree=12, homophily=share, seed=5)
    m = data.num_edges / 2
    # m is a sum of independent coins with mean 24,000 and variance below it; the seed is fixed.
    assert abs(m - 24_000) < 4 * 24_000**0.5
    assert abs(homophily(data) - share) < 4 * (share * (1 - share) / m) ** 0.5


def test_csbm_joins_every_pair_of_nodes_equally_often() -> None:
    counts = np.zeros((12, 12))
    for seed in range(400):
        data = contextual_sbm(40, classes=2, features=2, average_degree=13, homophily=0.5, seed=seed)
        row, col = data.edge_index
        keep = (row < 12) & (col < 12)
        np.add.at(counts, (row[keep].numpy(), col[keep].numpy()), 1)
    pairs = counts[np.triu_indices(12, 1)]
    # Labels are shuffled, so each pair is joined with probability near 13/39; 5 deviations of 400 coins are 47.
    assert np.abs(pairs - 400 * 13 / 39).max() < 47


def test_csbm_class_means_are_as_far_apart_as_the_signal_says() -> None:
    data = contextual_sbm(6000, classes=3, features=10, feature_signal=2.0, seed=1)
    means = torch.stack([data.x[data.y == c].mean(dim=0) for c in range(3)])
    assert torch.allclose(torch.pdist(means), torch.full((3,), 2.0 * 2**0.5), atol=0.15)
    noise = contextual_sbm(6000, classes=3, features=10, feature_signal=0.0, seed=1).x
    assert abs(float(noise.std()) - 1) < 0.02


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"n": 1}, "n = 1 given; expected an integer of at least 2"),
        ({"classes": 1}, "classes = 1 given"),
        ({"classes": 2000, "features": 3000}, "2000 classes for 1000 nodes"),
        ({"features": 3}, "features = 3 given; expected an integer of at least 4"),
        ({"homophily": 1.5}, "homophily = 1.5 given; expected 0 to 1"),
        ({"homophily": float("nan")}, "homophily = nan given"),
        ({"average_degree": 0.0}, "average_degree = 0.0 given"),
        ({"average_degree": 500.0}, "edges within classes, but there are only"),
        ({"average_degree": 999.0, "homophily": 0.1}, "edges between classes, but there are only"),
        ({"feature_signal": -1.0}, "feature_signal = -1.0 given"),
        ({"seed": -1}, "seed = -1 given"),
        ({"n": 10.0}, "n = 10.0 given"),
    ],
)
def test_csbm_says_which_dial_is_out_of_range(dials: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGraphError, match=message):
        contextual_sbm(**{"n": 1000, **dials})


def test_csbm_too_small_to_split_says_so() -> None:
    with pytest.raises(UnknownSplitError, match="cannot be split 10/10/80 by class"):
        contextual_sbm(8, classes=4, features=4, average_degree=1, homophily=0.2)
