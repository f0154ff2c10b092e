"""The gate: what is read in which way, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Data, HeteroData

from contractive_gnn.inputs import (
    MASKS,
    InputError,
    check_known,
    checked,
    class_labels,
    features,
    node_mask,
    undirected,
)

X = torch.ones(4, 2)
PATH = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])


def adjacency(weight: torch.Tensor | None = None) -> torch.Tensor:
    return torch.sparse_coo_tensor(PATH, torch.ones(6) if weight is None else weight, (4, 4)).coalesce()


@pytest.mark.parametrize(
    ("mask", "nodes"),
    [
        (torch.tensor([True, False, True, False]), [0, 2]),
        (torch.tensor([[True], [False], [True], [False]]), [0, 2]),
        (torch.tensor([2, 0]), [0, 2]),
        (torch.tensor([3, 2, 1, 0], dtype=torch.int32), [0, 1, 2, 3]),
        (torch.tensor([1, 0, 1, 0]), [0, 2]),
        (torch.tensor([1, 0, 1, 0], dtype=torch.uint8), [0, 2]),
        (torch.tensor([0, 0, 0, 0]), []),
        (torch.tensor([], dtype=torch.int64), []),
        ([0, 2], [0, 2]),
        (torch.tensor([0, 2]).numpy(), [0, 2]),
    ],
)
def test_masks_and_indices_select_the_same_nodes(mask: Any, nodes: list[int]) -> None:
    chosen = node_mask(mask, 4)
    assert chosen.dtype == torch.bool
    assert chosen.nonzero().flatten().tolist() == nodes


@pytest.mark.parametrize(
    ("mask", "n", "says"),
    [
        (torch.ones(4, 3, dtype=torch.bool), 4, r"3 splits; choose one of them, data\.mask = data\.mask\[:, k\]"),
        (torch.ones(5, dtype=torch.bool), 4, r"torch.bool \[5\]; expected bool \[4\]"),
        (torch.tensor([0, 0, 1]), 4, "repeated values"),
        (torch.tensor([0, 4]), 4, "values from 0 to 4"),
        (torch.tensor([-1, 2]), 4, "values from -1 to 2"),
        (torch.tensor([1.0, 0.0, 1.0, 0.0]), 4, "torch.float32"),
        (torch.tensor([0, 1]), 2, "a mask or indices; give it as bool"),
        (torch.tensor([0]), 1, "a mask or indices; give it as bool"),
        ("train", 4, "mask is 'train'"),
        (None, 4, "mask is None"),
    ],
)
def test_what_cannot_be_read_as_a_mask_is_refused(mask: Any, n: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        node_mask(mask, n)


@pytest.mark.parametrize(
    "y",
    [
        torch.tensor([0, 2, -1, 0]),
        torch.tensor([[0], [2], [-1], [0]]),
        torch.tensor([0, 2, -1, 0], dtype=torch.int32),
        torch.tensor([0.0, 2.0, -1.0, 0.0]),
        torch.tensor([0, 2, -100, 0]),
    ],
)
def test_labels_have_one_form(y: torch.Tensor) -> None:
    labels = class_labels(y, 4)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0, 2, -1, 0]


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (None, "y is None"),
        (torch.eye(4), r"take y\.argmax\(dim=1\)"),
        (torch.zeros(3), r"\[3\]; expected one class a node"),
        (torch.tensor([0.0, 0.5, 1.0, 0.0]), "not whole numbers"),
        (torch.tensor([0.0, torch.nan, 1.0, 0.0]), "not whole numbers"),
        (torch.tensor([0, -2, 1, 0]), "y holds -2"),
        (torch.tensor([0, -2, 1, 0], dtype=torch.int8), "y holds -2"),
    ],
)
def test_what_is_no_label_is_refused(y: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        class_labels(y, 4)


def test_sparse_features_of_every_layout_are_the_same_features() -> None:
    x = torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    for given in (x.to_sparse_coo(), x.to_sparse_csc(), x.to_sparse_csr()):
        assert features(given).layout == torch.sparse_csr
        assert torch.equal(features(given).to_dense(), x)
    assert features(x) is x
    plain = x.to_sparse_csr()
    assert features(plain) is plain
    zeros, crossed = (
        torch.sparse_csr_tensor([0, 2, 2, 3, 4], [0, 1, 0, 1], [0.0, 2.0, 1.0, 3.0], (4, 2)),
        torch.sparse_csr_tensor(
            [0, 2, 2, 4, 5], [1, 0, 1, 0, 1], [2.0, 0.0, 0.0, 1.0, 3.0], (4, 2), check_invariants=False
        ),
    )
    for given in (zeros, crossed):
        assert features(given).values().tolist() == [2.0, 1.0, 3.0]
        assert torch.equal(features(given).to_dense(), x)
    with pytest.raises(InputError, match=r"expected a dense tensor here: give x\.to_dense"):
        features(x.to_sparse_csr(), dense=True)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (None, "x is None"),
        (torch.ones(4, 2, dtype=torch.int64), r"convert it with x\.float\(\)"),
        (torch.ones(4, 2, dtype=torch.bool), r"convert it with x\.float\(\)"),
        (torch.ones(4), r"x is torch\.float32 \[4\]; expected floating point \[n, d\]$"),
        (torch.ones(4, 2, 2), "expected floating point"),
        (torch.tensor([[1.0, 1.0], [1.0, torch.nan]]), "1 entries that are not finite .* node 1, column 1"),
        (torch.tensor([[1.0, -torch.inf]]), "not finite"),
        (torch.tensor([[torch.inf, 0.0]]).to_sparse_csr(), "not finite"),
    ],
)
def test_features_that_say_nothing_are_refused(x: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        features(x)


def test_an_undirected_graph_in_any_order_and_as_a_matrix() -> None:
    weight = torch.tensor([1.0, 1.0, 0.5, 0.5, 0.0, 0.0])
    order = torch.tensor([5, 0, 3, 1, 4, 2])
    graph = undirected(X, PATH[:, order], weight[order])
    assert torch.equal(graph.edge_index, PATH[:, order])
    assert torch.equal(graph.edge_weight, weight[order])
    assert torch.equal(undirected(X, PATH).edge_weight, torch.ones(6))
    for matrix in (adjacency(weight), adjacency(weight).to_sparse_csr()):
        read = undirected(X, matrix)
        assert torch.equal(
            torch.sparse_coo_tensor(read.edge_index, read.edge_weight, (4, 4)).to_dense(), matrix.to_dense()
        )
    assert undirected(X, PATH[:, :0]).edge_index.shape == (2, 0)


@pytest.mark.parametrize(
    ("edges", "weight", "says"),
    [
        (PATH[:, ::2], None, r"edge \(0, 1\) has no edge \(1, 0\): the graph is directed"),
        (torch.cat([PATH, PATH[:, :1]], dim=1), None, r"edge \(0, 1\) is there twice"),
        (torch.cat([PATH, torch.tensor([[3], [3]])], dim=1), None, "node 3 has a self-loop"),
        (torch.cat([PATH, torch.tensor([[-1], [-1]])], dim=1), None, "from -1 to 3; expected 0 to 3, without padding"),
        (PATH + 1, None, "from 1 to 4"),
        (PATH.int(), None, r"edge_index is torch\.int32"),
        (PATH.t(), None, r"\[6, 2\]; expected int64 \[2, E\]"),
        (None, None, "edge_index is None"),
        (PATH.numpy(), None, "edge_index is a ndarray"),
        (PATH, torch.tensor([1.0, 2, 1, 1, 1, 1]), r"asymmetric: 1\.0 at \(0, 1\) and 2\.0 at \(1, 0\)"),
        (PATH, torch.tensor([1.0, 1, -1, -1, 1, 1]), r"2 entries that are negative, the first at edge \(1, 2\)"),
        (PATH, torch.tensor([1.0, 1, torch.nan, torch.nan, 1, 1]), "not finite"),
        (PATH, torch.tensor([1.0, 1, torch.inf, torch.inf, 1, 1]), "not finite"),
        (PATH, torch.ones(5), r"edge_weight is torch\.float32 \[5\]; expected floating point \[6\]"),
        (PATH, torch.ones(6, 1), r"\[6, 1\]"),
        (PATH, torch.ones(6, dtype=torch.int64), r"torch\.int64"),
        (adjacency(), torch.ones(6), "must be None where edge_index is a sparse matrix"),
        (torch.eye(5).to_sparse(), None, r"sparse matrix \[5, 5\]; expected \[4, 4\]"),
        (torch.eye(4).to_sparse(), None, "node 0 has a self-loop"),
        (adjacency(torch.tensor([1.0, 2, 1, 1, 1, 1])), None, "asymmetric"),
    ],
)
def test_what_is_no_simple_undirected_graph_is_refused(edges: Any, weight: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        undirected(X, edges, weight)


def test_weights_are_refused_where_none_are_read() -> None:
    undirected(X, PATH, torch.ones(6), weighted=False)
    undirected(X, adjacency(), weighted=False)
    with pytest.raises(InputError, match="weights other than 1"):
        undirected(X, adjacency(torch.full((6,), 0.5)), weighted=False)


def graph(**fields: Any) -> Data:
    given = {"x": X, "edge_index": PATH, "y": torch.tensor([0, 1, 0, 1]), "train_mask": torch.tensor([0, 3])}
    return Data(**{**given, **fields})


def test_a_graph_comes_out_in_one_form_and_the_callers_is_left_alone() -> None:
    data = graph(
        y=torch.tensor([[0], [1], [-100], [1]]), edge_weight=torch.ones(6), test_mask=torch.tensor([0, 1, 0, 0])
    )
    own = checked(data, masks=["train_mask", "test_mask"])
    assert own.y.tolist() == [0, 1, -1, 1]
    assert own.train_mask.tolist() == [True, False, False, True]
    assert own.test_mask.tolist() == [False, True, False, False]
    assert "edge_weight" not in own  # ones weigh nothing
    assert data.train_mask.tolist() == [0, 3]
    assert "edge_weight" in data
    half = checked(graph(edge_weight=torch.tensor([0.5, 0.5, 0.0, 0.0, 2.0, 2.0])))
    assert half.edge_weight.tolist() == [0.5, 0.5, 0.0, 0.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (graph(y=None), "data lacks y"),
        (graph(train_mask=None), "data lacks train_mask"),
        (
            graph(edge_attr=torch.ones(6, 3)),
            r"data has edge_attr, which nothing here reads: delete it \(del data\.edge_a",
        ),
        (graph(adj_t=adjacency()), "data has adj_t"),
        (graph(edge_type=torch.ones(6)), "data has edge_type"),
        (graph(x=None), "data: x is None"),
    ],
)
def test_a_graph_that_would_be_read_in_part_only_is_refused(data: Data, says: str) -> None:
    with pytest.raises(InputError, match=says):
        checked(data, masks=["train_mask"])


def test_other_containers_are_refused() -> None:
    for other in (HeteroData(), {"x": X}, None):
        with pytest.raises(TypeError, match=r"data is a torch_geometric\.data\.Data, given"):
            checked(other)


def test_a_mask_must_select_labelled_nodes() -> None:
    y = torch.tensor([0, -1, 1, 0])
    check_known(y, y >= 0)
    with pytest.raises(InputError, match="test_mask selects 1 nodes without a label"):
        check_known(y, torch.ones(4, dtype=torch.bool), name="test_mask")
    with pytest.raises(InputError, match="mask must select at least one node"):
        check_known(y, torch.zeros(4, dtype=torch.bool))
    assert MASKS == ("train_mask", "val_mask", "test_mask")


def test_sizes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="num_nodes is 9, and x has 4 rows"):
        checked(graph(num_nodes=9))
    with pytest.raises(InputError, match=r"batch is torch\.int64 \[3\]; expected .* int64 \[4\]"):
        checked(graph(batch=torch.zeros(3, dtype=torch.int64)))
    own = checked(graph(x=X.clone().requires_grad_(), edge_weight=torch.full((6,), 0.5, requires_grad=True)))
    assert not own.x.requires_grad  # whoever asks for scores asks for no gradient
    assert not own.edge_weight.requires_grad
    for x in (X.to("meta"), X.to(torch.float8_e4m3fn), torch.ones(4, 4).to_sparse_bsr((2, 2))):
        with pytest.raises(InputError, match="x is"):
            features(x)
