"""Orders of nodes and parts of a graph."""

import re

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from contractive_gnn.partition import node_order, partition, reorder


def shuffled_path(n):
    place = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return to_undirected(torch.stack([place[:-1], place[1:]])), place


def cliques(number, size):
    """Cliques in a ring, joined by one edge each."""
    pair = torch.combinations(torch.arange(size)).t()
    inside = torch.cat([pair + k * size for k in range(number)], dim=1)
    first = torch.arange(number) * size
    return to_undirected(torch.cat([inside, torch.stack([first, first.roll(-1) + 1])], dim=1))


def metis():
    pytest.importorskip("pymetis")
    return "metis"


def test_rcm_finds_a_path():
    edge_index, place = shuffled_path(50)
    order = node_order(edge_index, 50)
    assert torch.equal(order, place) or torch.equal(order.flip(0), place)


@pytest.mark.parametrize("method", ["rcm", "metis"])
def test_an_order_is_a_permutation(method):
    if method == "metis":
        metis()
    edge_index = cliques(300, 15)
    order = node_order(edge_index, 4501, method=method)  # the last node is isolated
    assert torch.equal(order.sort().values, torch.arange(4501))
    assert torch.equal(order, node_order(edge_index, 4501, method=method))


def test_metis_cuts_between_cliques():
    part = partition(cliques(8, 30), 240, 4, method=metis())
    assert part.bincount(minlength=4).tolist() == [60] * 4
    assert all((part[k * 30 : (k + 1) * 30] == part[k * 30]).all() for k in range(8))


@pytest.mark.parametrize(("n", "parts"), [(10, 10), (100, 50), (100, 1), (60, 20)])
@pytest.mark.parametrize("method", ["rcm", "metis"])
def test_no_part_is_empty(n, parts, method):
    if method == "metis":
        metis()
    edge_index, _ = shuffled_path(n)
    part = partition(edge_index, n, parts, method=method)
    assert part.shape == (n,)
    assert (part.bincount(minlength=parts) > 0).all()


@pytest.mark.parametrize("method", ["rcm", "metis"])
def test_directions_and_loops_and_double_edges_make_no_difference(method):
    if method == "metis":
        metis()
    edge_index = cliques(6, 10)
    one_way = edge_index[:, edge_index[0] < edge_index[1]]
    untidy = torch.cat([one_way] * 300 + [torch.arange(60).repeat(2, 1)], dim=1)
    assert torch.equal(partition(untidy, 60, 3, method=method), partition(edge_index, 60, 3, method=method))


def test_what_is_refused():
    edge_index = cliques(2, 3)
    with pytest.raises(ValueError, match="at most the number of nodes, got 7 parts for 6"):
        partition(edge_index, 6, 7)
    with pytest.raises(ValueError, match="'rcm' or 'metis', got 'spectral'"):
        node_order(edge_index, 6, method="spectral")
    with pytest.raises(ValueError, match="nodes from 0 to 4"):
        node_order(edge_index, 5)
    with pytest.raises(ValueError, match="int64"):
        node_order(edge_index.float(), 6)


@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_csr])
def test_a_reordered_graph_is_the_same_graph(layout):
    edge_index, _ = shuffled_path(30)
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(30, 7, generator=generator) < 0.3).float()
    data = Data(
        x=x if layout == torch.strided else x.to_sparse_csr(),
        edge_index=edge_index,
        edge_weight=(edge_index[0] + edge_index[1]).float(),
        y=torch.arange(30),
        train_mask=torch.arange(30) < 9,
        name="path",
    )
    new = reorder(data)
    assert (new.name, new.num_nodes, data.get("n_id")) == ("path", 30, None)
    assert torch.equal(new.y, new.n_id)
    assert torch.equal(new.train_mask, new.n_id < 9)
    assert torch.equal(new.x.to_dense(), x[new.n_id])
    back = new.n_id[new.edge_index]
    assert torch.equal(new.edge_weight, back.sum(dim=0).float())
    assert {tuple(pair) for pair in back.t().tolist()} == {tuple(pair) for pair in edge_index.t().tolist()}
    assert int((new.edge_index[0] - new.edge_index[1]).abs().max()) == 1  # a path in its own order


def test_what_belongs_to_the_edges_is_not_left_in_the_old_order():
    edge_index, _ = shuffled_path(30)
    with pytest.raises(ValueError, match=r"data.edge_attr belongs to the edges"):
        reorder(Data(x=torch.ones(30, 1), edge_index=edge_index, edge_attr=torch.ones(58, 2)))
    adjacency = torch.eye(30).to_sparse_csr()
    with pytest.raises(ValueError, match="sparse matrix"):
        reorder(Data(x=torch.ones(30, 1), edge_index=adjacency))


def test_whatever_has_an_entry_for_each_node_is_in_the_new_order():
    edge_index, _ = shuffled_path(30)
    data = Data(x=torch.ones(30, 1), edge_index=edge_index)
    data.names, data.places, data.train_mask = [f"node {k}" for k in range(30)], np.arange(30), torch.tensor([4, 17])
    new = reorder(data)
    assert new.names == [f"node {k}" for k in new.n_id.tolist()]
    assert new.places.tolist() == new.n_id.tolist()
    assert sorted(new.n_id[new.train_mask].tolist()) == [4, 17]


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csc])
def test_sparse_features_of_any_layout_are_reordered(layout):
    edge_index, _ = shuffled_path(30)
    x = torch.eye(30).to_sparse(layout=layout)
    new = reorder(Data(x=x, edge_index=edge_index))
    assert torch.equal(new.x.to_dense(), torch.eye(30)[new.n_id])


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"edge_index": None}, ValueError, "edge_index must be an int64 tensor [2, E], got a NoneType"),
        ({"edge_weight": torch.ones(3)}, ValueError, "edge_weight must be [58], one for each edge, got [3]"),
        ({"train_mask": torch.tensor([4, 4])}, ValueError, "train_mask"),
    ],
)
def test_a_graph_that_cannot_be_reordered_is_told(fields, error, message):
    data = Data(x=torch.ones(30, 1), edge_index=shuffled_path(30)[0])
    data.update(fields)
    with pytest.raises(error, match=re.escape(message)):
        reorder(data)
    with pytest.raises(TypeError, match="got a int"):
        reorder(3)
    with pytest.raises(ValueError, match="got a list"):
        partition([[0, 1], [1, 0]], 2, 2)
