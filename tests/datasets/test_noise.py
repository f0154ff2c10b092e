from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from contractive_gnn.datasets import InvalidGraphError, add_random_edges, load, validate
from contractive_gnn.datasets.noise import pair_at, pair_rank

Edges = set[tuple[int, int]]


def edges(data: Data) -> Edges:
    return {(u, v) for u, v in data.edge_index.T.tolist() if u < v}


def graph(n: int, pairs: Edges) -> Data:
    both = sorted([*pairs, *((v, u) for u, v in pairs)])
    return Data(x=torch.ones(n, 1), edge_index=torch.tensor(both, dtype=torch.int64).reshape(-1, 2).T)


@st.composite
def graphs(draw: st.DrawFn) -> Data:
    n = draw(st.integers(2, 12))
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda pair: pair[0] < pair[1])
    return graph(n, draw(st.sets(pairs)))


@given(graphs(), st.floats(0, 3), st.integers(0, 2**40))
@settings(max_examples=200, deadline=None)
def test_adds_exactly_the_number_asked_for_or_says_there_is_no_room(data: Data, fraction: float, seed: int) -> None:
    n, m = data.num_nodes, data.num_edges // 2
    added = round(fraction * m)
    if added > n * (n - 1) // 2 - m:
        with pytest.raises(InvalidGraphError, match=f"asks for {added} new edges"):
            add_random_edges(data, fraction=fraction, seed=seed)
        return
    noisy = add_random_edges(data, fraction=fraction, seed=seed)
    validate(noisy)
    assert noisy.is_coalesced()
    assert edges(noisy) >= edges(data)
    assert noisy.num_edges // 2 == m + added
    assert torch.equal(noisy.edge_index, add_random_edges(data, fraction=fraction, seed=seed).edge_index)


@given(st.integers(0, 2**52))
def test_pair_at_inverts_pair_rank(rank: int) -> None:
    u, v = pair_at(np.array([rank]))
    assert 0 <= int(u[0]) < int(v[0])
    assert pair_rank(u, v).tolist() == [rank]


@given(st.integers(1, 2**26), st.integers(-1, 1))
def test_pair_at_is_exact_where_the_root_is_an_integer(v: int, off: int) -> None:
    rank = max(0, v * (v - 1) // 2 + off)
    first, second = pair_at(np.array([rank]))
    assert pair_rank(first, second).tolist() == [rank]
    assert int(first[0]) < int(second[0])


def test_can_fill_the_graph_to_the_last_pair() -> None:
    data = graph(4, {(0, 1), (1, 2), (2, 3)})
    assert len(edges(add_random_edges(data, fraction=1.0, seed=0))) == 6


def test_every_non_edge_is_equally_likely() -> None:
    data = graph(5, {(0, 1), (2, 3), (1, 4)})
    draws = 2100
    counts: dict[tuple[int, int], int] = {}
    for seed in range(draws):
        (new,) = edges(add_random_edges(data, fraction=1 / 3, seed=seed)) - edges(data)
        counts[new] = counts.get(new, 0) + 1
    expected = draws / 7  # 10 pairs less 3 edges
    assert len(counts) == 7
    # χ² with 6 degrees of freedom exceeds 22.5 once in a thousand samples; the seeds are fixed.
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 22.5


def test_another_seed_gives_other_edges_and_the_input_stays_as_it_was() -> None:
    data = load("digits")
    before = data.edge_index.clone()
    one, two = (add_random_edges(data, fraction=0.25, seed=seed) for seed in (1, 2))
    assert edges(one) != edges(two)
    assert torch.equal(data.edge_index, before)
    assert one.num_edges == data.num_edges + 2 * round(0.25 * data.num_edges / 2)
    for key in ("x", "y", "train_mask", "val_mask", "test_mask"):
        assert torch.equal(one[key], data[key])
    assert (one.name, one.split) == ("digits", "random")


def test_global_random_states_are_left_alone() -> None:
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002
    add_random_edges(graph(5, {(0, 1)}), fraction=2.0, seed=0)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == numpy_state  # noqa: NPY002


@pytest.mark.parametrize("fraction", [-0.1, float("nan"), float("inf")])
def test_a_fraction_out_of_range_is_an_error(fraction: float) -> None:
    with pytest.raises(InvalidGraphError, match="expected a finite number of at least 0"):
        add_random_edges(graph(3, {(0, 1)}), fraction=fraction, seed=0)


@pytest.mark.parametrize(
    "arguments", [{"fraction": "0.1", "seed": 0}, {"fraction": True, "seed": 0}, {"fraction": 0.1, "seed": 0.5}]
)
def test_a_wrong_type_is_a_type_error(arguments: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="given; expected a"):
        add_random_edges(graph(3, {(0, 1)}), **arguments)  # type: ignore[arg-type]


def test_a_bad_graph_is_an_error() -> None:
    with pytest.raises(InvalidGraphError, match="self-loop"):
        add_random_edges(graph(3, {(1, 1)}), fraction=0.0, seed=0)
    weighted = graph(3, {(0, 1)})
    weighted.edge_weight = torch.ones(2)
    with pytest.raises(InvalidGraphError, match="has edge_weight"):
        add_random_edges(weighted, fraction=1.0, seed=0)
    with pytest.raises(InvalidGraphError, match="seed -1 given"):
        add_random_edges(graph(3, {(0, 1)}), fraction=1.0, seed=-1)


@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize("fraction", [0.2, 1.0])
def test_cora_gets_the_exact_number(fraction: float) -> None:
    clean = load("cora", download=False)
    noisy = add_random_edges(clean, fraction=fraction, seed=0)
    assert len(edges(noisy) - edges(clean)) == round(fraction * 5069)
    assert edges(noisy) >= edges(clean)
