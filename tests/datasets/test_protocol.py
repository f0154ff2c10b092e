from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric.data import Data

from contractive_gnn.datasets import InvalidGraphError, UnknownSplitError, random_split, validate, without_test_nodes
from contractive_gnn.datasets.protocol import edge_index, inductive_split, largest_component, simple_graph


def graph(edges: list[tuple[int, int]], n: int = 4, **fields: torch.Tensor) -> Data:
    return Data(x=torch.ones(n, 2), edge_index=torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T, **fields)


def test_simple_graph_symmetrises_binarises_and_drops_loops() -> None:
    directed = sp.csr_matrix(np.array([[2.0, 3, 0], [0, 0, -1], [0, 5, 0]]))
    expected = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    assert np.array_equal(simple_graph(directed).toarray(), expected)


def test_simple_graph_is_not_fooled_by_duplicates_or_stored_zeros() -> None:
    entries = np.array([1.0, 1.0, 0.0]), (np.array([0, 0, 1]), np.array([1, 1, 2]))
    assert simple_graph(sp.coo_matrix(entries, shape=(3, 3))).toarray().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_largest_component_keeps_the_order_of_the_nodes() -> None:
    links = np.ones(3), (np.array([5, 2, 1]), np.array([2, 4, 3]))
    assert largest_component(sp.coo_matrix(links, shape=(6, 6))).tolist() == [2, 4, 5]


def test_edge_index_is_sorted_by_row_then_column() -> None:
    adjacency = simple_graph(sp.coo_matrix((np.ones(2), ([2, 2], [1, 0])), shape=(3, 3)))
    assert edge_index(adjacency).tolist() == [[0, 1, 2, 2], [2, 2, 0, 1]]


@pytest.mark.parametrize("seed", [0, 15, 2**32 - 1])
def test_random_split_is_deeprobusts(seed: int) -> None:
    reference = pytest.importorskip("deeprobust.graph.utils", reason="the extra 'attacks' is not installed")
    labels = np.random.default_rng(seed).integers(0, 7, size=500)
    split = random_split(labels, seed=seed)
    state = np.random.get_state()  # noqa: NPY002  DeepRobust seeds the global generator
    expected = reference.get_train_val_test(500, val_size=0.1, test_size=0.8, stratify=labels, seed=seed)
    np.random.set_state(state)  # noqa: NPY002
    for part, indices in zip(("train", "val", "test"), expected, strict=True):
        assert split[f"{part}_mask"].tolist() == indices.tolist()


def test_random_split_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002
    random_split(np.arange(200) % 2, seed=7)
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "1"])
def test_random_split_refuses_a_seed_out_of_range(seed: int) -> None:
    with pytest.raises(UnknownSplitError, match="expected an integer from 0"):
        random_split(np.arange(200) % 2, seed=seed)


def test_random_split_refuses_a_class_too_small_to_stratify() -> None:
    with pytest.raises(UnknownSplitError, match=r"counts \{0: 99, 1: 1\}.*at least 20 nodes"):
        random_split(np.array([0] * 99 + [1]), seed=0)


def test_an_inductive_split_has_twenty_and_twenty_of_each_class_and_a_tenth() -> None:
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [100, 54, 300]))
    split = inductive_split(labels, seed=3)
    counts = {key: np.bincount(labels[nodes]).tolist() for key, nodes in split.items()}
    assert counts == {"train_mask": [20, 20, 20], "val_mask": [20, 20, 20], "test_mask": [10, 5, 30]}
    assert len(np.unique(np.concatenate([*split.values()]))) == 165
    assert all(np.array_equal(nodes, inductive_split(labels, seed=3)[key]) for key, nodes in split.items())
    assert not np.array_equal(split["test_mask"], inductive_split(labels, seed=4)["test_mask"])


def test_an_inductive_split_refuses_a_small_class_and_a_seed_out_of_range() -> None:
    with pytest.raises(UnknownSplitError, match=r"class 1 has 43 nodes; an inductive split wants 20 .*, 44 in all"):
        inductive_split(np.repeat([0, 1], [60, 43]), seed=0)
    with pytest.raises(UnknownSplitError, match="split seed -1 given"):
        inductive_split(np.repeat([0, 1], 60), seed=-1)


def test_a_graph_without_its_test_nodes_keeps_the_others_in_order() -> None:
    masks = {key: torch.tensor(values) for key, values in (("train_mask", [1, 0, 0, 0]), ("test_mask", [0, 1, 0, 0]))}
    whole = graph([(0, 1), (1, 0), (1, 3), (3, 1), (2, 3), (3, 2)], y=torch.arange(4), **masks)
    whole.train_mask, whole.test_mask, whole.name = whole.train_mask.bool(), whole.test_mask.bool(), "four"
    known = without_test_nodes(whole)
    assert known.edge_index.tolist() == [[1, 2], [2, 1]]
    assert known.y.tolist() == [0, 2, 3]
    assert known.train_mask.tolist() == [True, False, False]
    assert (int(known.test_mask.sum()), known.name, whole.num_nodes) == (0, "four", 4)


def test_validate_accepts_a_proper_graph_and_one_without_edges() -> None:
    validate(graph([(0, 1), (1, 0)]))
    validate(graph([]))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([(0, 1)], r"edge \(0, 1\) has no edge \(1, 0\)"),
        ([(0, 1), (1, 0), (0, 1)], r"edge \(0, 1\) is there twice"),
        ([(0, 1), (1, 0), (2, 2)], "node 2 has a self-loop"),
        ([(0, 4), (4, 0)], "nodes from 0 to 4; expected 0 to 3"),
        ([(0, -1), (-1, 0)], "nodes from -1 to 0"),
    ],
)
def test_validate_names_the_edge_that_breaks_the_protocol(edges: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(InvalidGraphError, match=message):
        validate(graph(edges))


def test_validate_checks_shapes_and_types() -> None:
    pair = [(0, 1), (1, 0)]
    half = torch.tensor([True, True, False, False])
    cases = [
        (Data(edge_index=torch.tensor(pair).T), "no node features"),
        (Data(x=torch.ones(4, 1, dtype=torch.int64), edge_index=torch.tensor(pair).T), "x is torch.int64"),
        (Data(x=torch.ones(4, 1), edge_index=torch.tensor(pair).T.int()), "edge_index is torch.int32"),
        (Data(x=torch.ones(4, 1)), "edge_index is None"),
        (graph(pair, y=torch.zeros(3, dtype=torch.int64)), r"y is torch.int64 \[3\]; expected int64 \[4\]"),
        (graph(pair, train_mask=torch.zeros(4)), "train_mask is torch.float32"),
        (graph(pair, train_mask=half, test_mask=half), "a node is in two of"),
    ]
    for data, message in cases:
        with pytest.raises(InvalidGraphError, match=message):
            validate(data)
