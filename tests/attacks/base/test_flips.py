from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.attacks.base import edge_difference, flip_edges, undirected_edges


def flips(*pairs: tuple[int, int]) -> Tensor:
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).t()


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(2, 12),
    edges=st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11))),
    chosen=st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11))),
)
def test_flipping_is_its_own_inverse(n: int, edges: set[tuple[int, int]], chosen: set[tuple[int, int]]) -> None:
    upper = sorted((u, v) for u, v in edges if u < v < n)
    flipped = sorted((u, v) for u, v in chosen if u < v < n)
    both = flips(*sorted(upper + [(v, u) for u, v in upper]))
    after = flip_edges(both, flips(*flipped), num_nodes=n)
    assert torch.equal(edge_difference(both, after), flips(*flipped))
    assert {*map(tuple, undirected_edges(after).t().tolist())} == set(upper) ^ set(flipped)
    assert torch.equal(flip_edges(after, flips(*flipped), num_nodes=n), both)
