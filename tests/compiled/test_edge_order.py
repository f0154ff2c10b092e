"""The sorted edge lists: both hold every edge, and a changed tensor gets new ones."""

import gc
import weakref

import pytest
import torch

from contractive_gnn.compiled.edge_order import EdgeOrder

pytest.importorskip("numba", reason="the sort is compiled by numba, which comes with the extra 'attacks'")


def edges(*, seed: int = 0, number: int = 60) -> torch.Tensor:
    return torch.randint(9, (2, number), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["directed", "sorted", "undirected"])
def test_every_edge_stands_at_both_of_its_ends(kind: str) -> None:
    edge_index = edges()
    if kind == "sorted":
        edge_index = edge_index[:, (edge_index[1] * 9 + edge_index[0]).argsort(stable=True)]
    elif kind == "undirected":
        edge_index = edge_index[:, edge_index[0] != edge_index[1]]
        edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    order = EdgeOrder.of(edge_index, 9)
    node = torch.repeat_interleave(torch.arange(9), order.pointer.diff())
    assert bool(((node * 9 + order.neighbour).diff() >= 0).all())
    for place, ends in ((order.edge, (order.neighbour, node)), (order.back, (node, order.neighbour))):
        listed = place >= 0
        assert torch.equal(place[listed].sort().values.long(), torch.arange(edge_index.size(1)))
        assert torch.equal(edge_index[0, place[listed]], ends[0][listed].long())
        assert torch.equal(edge_index[1, place[listed]], ends[1][listed].long())
    both = (order.edge >= 0) & (order.back >= 0)
    assert bool(((order.edge >= 0) | (order.back >= 0)).all())
    if kind == "undirected":
        assert bool(both.all())


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
    listed = after.edge >= 0
    assert torch.equal(edge_index[0, after.edge[listed]], after.neighbour[listed].long())


@pytest.mark.parametrize("wrong", [-1, 9])
def test_an_index_out_of_range_is_refused(wrong: int) -> None:
    edge_index = edges()
    edge_index[1, 5] = wrong
    with pytest.raises(IndexError, match="node indices from 0 to 8"):
        EdgeOrder.of(edge_index, 9)
