"""The degree-corrected block model: what its dials promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from contractive_gnn.datasets import InvalidGraphError, degree_corrected_sbm, validate


@pytest.mark.parametrize("seed", [0, 7])
def test_it_has_the_edges_and_the_shape_that_are_asked_for(seed: int) -> None:
    data = degree_corrected_sbm(3000, classes=5, communities=20, features=9, average_degree=11, seed=seed)
    validate(data)
    assert (data.num_nodes, data.num_features, data.num_edges) == (3000, 9, 33_000)
    assert data.y.bincount().tolist() == [600] * 5
    assert [int(data[f"{part}_mask"].sum()) for part in ("train", "val", "test")] == [1620, 540, 840]


def test_edges_keep_to_communities_and_some_nodes_are_hubs() -> None:
    data = degree_corrected_sbm(20_000, inside=0.6)
    row, col = data.edge_index
    within = float((data.y[row] == data.y[col]).double().mean())
    assert within == pytest.approx(0.6 + 0.4 / 40, abs=0.02)
    degree = row.bincount(minlength=20_000).double()
    assert degree.max() > 15 * degree.mean()
    assert degree.median() < degree.mean()


def test_features_tell_of_the_class_as_much_as_the_signal_says() -> None:
    for signal in (0.0, 3.0):
        data = degree_corrected_sbm(4000, classes=4, feature_signal=signal)
        means = torch.stack([data.x[data.y == c].mean(dim=0) for c in range(4)])
        assert means.norm(dim=1).numpy() == pytest.approx([signal or 0.36] * 4, abs=0.15)


def test_a_seed_is_a_graph_and_a_split_seed_a_split() -> None:
    one, again, other, split = (
        degree_corrected_sbm(1000, **seeds)  # type: ignore[arg-type]
        for seeds in ({"seed": 1}, {"seed": 1}, {"seed": 2}, {"seed": 1, "split_seed": 5})
    )
    for key in ("x", "y", "edge_index", "train_mask"):
        assert torch.equal(one[key], again[key])
    assert not torch.equal(one.x, other.x)
    assert torch.equal(one.edge_index, split.edge_index)
    assert not torch.equal(one.train_mask, split.train_mask)


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"n": 1}, "n = 1 given"),
        ({"split": 0.5}, "split = 0.5 given; expected two fractions"),
        ({"split": (0.5,)}, "expected two fractions"),
        ({"split": (0.001, 0.1)}, "of 100 nodes one of the three parts has none"),
        ({"average_degree": "many"}, "average_degree = 'many' given; expected a finite number from 0.02 to 99"),
        ({"classes": 1}, "classes = 1 given; expected an integer of at least 2"),
        ({"communities": 3}, "communities = 3 given; expected an integer of at least 40"),
        ({"communities": 200}, "200 communities for 100 nodes"),
        ({"inside": 1.2}, "inside = 1.2 given; expected a finite number from 0 to 1"),
        ({"exponent": 2.0}, "exponent = 2.0 given; expected a finite number above 2"),
        ({"average_degree": float("nan")}, "average_degree = nan given"),
        ({"split": (0.7, 0.3)}, "two fractions above 0 that leave some for the test"),
        ({"inside": 1.0, "average_degree": 60}, "edges found no room"),
        ({"seed": -1}, "seed = -1 given"),
    ],
)
def test_a_dial_out_of_range_is_told(dials: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGraphError, match=message):
        degree_corrected_sbm(**{"n": 100, **dials})
