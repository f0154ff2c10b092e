"""The sorted edge lists: both hold every edge, and a changed tensor gets new ones."""

import gc
import weakref

import pytest
import torch

from contractive_gnn.edge_order import EdgeOrder

pytest.importorskip("numba", reason="the sort is compiled by numba, which comes with the extra 'attacks'")


def edges(*, seed: int = 0, number: int = 60) -> torch.Tensor:
    return torch.randint(9, (2, number), generator=torch.Generator().manual_seed(seed))


def rows(pointer: torch.Tensor) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(pointer.numel() - 1), pointer.diff())


@pytest.mark.parametrize("in_order", [False, True])
def test_both_lists_are_the_edges_in_lexicographic_order(in_order: bool) -> None:
    edge_index = edges()
    if in_order:
        edge_index = edge_index[:, (edge_index[1] * 9 + edge_index[0]).argsort(stable=True)]
    order = EdgeOrder.of(edge_index, 9)
    for (pointer, other, edge), (near, far) in ((order.incoming, (1, 0)), (order.outgoing, (0, 1))):
        assert torch.equal(edge.sort().values, torch.arange(60, dtype=edge.dtype))
        assert torch.equal(edge_index[near, edge], rows(pointer))
        assert torch.equal(edge_index[far, edge], other.long())
        assert bool(((rows(pointer) * 9 + other).diff() >= 0).all())


def test_the_order_is_kept_with_the_tensor() -> None:
    edge_index = edges()
    assert EdgeOrder.of(edge_index, 9) is EdgeOrder.of(edge_index, 9)
    assert EdgeOrder.of(edge_index, 10).num_nodes == 10
    known = weakref.ref(EdgeOrder.of(edge_index, 9))
    del edge_index
    gc.collect()
    assert known() is None


def test_a_change_in_place_is_noticed_however_it_was_made() -> None:
    edge_index = edges()
    before = EdgeOrder.of(edge_index, 9)
    edge_index.numpy()[0, 3] = (edge_index[0, 3] + 1) % 9  # torch counts no version for this one
    after = EdgeOrder.of(edge_index, 9)
    assert after is not before
    assert torch.equal(edge_index[0, after.edge], after.source.long())


@pytest.mark.parametrize("wrong", [-1, 9])
def test_an_index_out_of_range_is_refused(wrong: int) -> None:
    edge_index = edges()
    edge_index[1, 5] = wrong
    with pytest.raises(IndexError, match="node indices from 0 to 8"):
        EdgeOrder.of(edge_index, 9)
