"""Graphs from files: every format gives the same graph, what is changed is said, and bad files are one sentence."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import torch
from torch_geometric.data import Data

from contractive_gnn import datasets, training
from contractive_gnn.datasets import DatasetError, contextual_sbm, read, validate
from contractive_gnn.nn import build


@pytest.fixture(scope="module")
def graph() -> Data:
    return contextual_sbm(120, seed=1)


def adjacency(graph: Data) -> sp.csr_matrix:
    n = graph.num_nodes
    row, col = graph.edge_index.numpy()
    return sp.csr_matrix((np.ones(len(row), dtype=np.float32), (row, col)), shape=(n, n))


def csr_parts(matrix: sp.csr_matrix, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}data": matrix.data,
        f"{prefix}indices": matrix.indices,
        f"{prefix}indptr": matrix.indptr,
        f"{prefix}shape": np.array(matrix.shape),
    }


def masks(graph: Data) -> dict[str, Any]:
    return {key: graph[key].numpy() for key in ("train_mask", "val_mask", "test_mask")}


def save_csr(graph: Data, folder: Path) -> Path:
    x = sp.csr_matrix(graph.x.numpy())
    np.savez(folder / "g.npz", **csr_parts(adjacency(graph), "adj_"), **csr_parts(x, "attr_"), labels=graph.y.numpy())
    return folder / "g.npz"


def save_dotted(graph: Data, folder: Path) -> Path:
    parts = csr_parts(adjacency(graph), "adj_matrix.")
    # beside the arrays some files keep a dictionary, which is a pickle and is not looked at
    names: Any = np.array({"a": 1}, dtype=object)
    np.savez(folder / "g.npz", **parts, attr_matrix=graph.x.numpy(), labels=graph.y.numpy(), idx_to_node=names)
    return folder / "g.npz"


def save_edges(graph: Data, folder: Path) -> Path:
    np.savez(
        folder / "g.npz",
        edges=graph.edge_index.numpy().T,
        node_features=graph.x.numpy(),
        node_labels=graph.y.numpy(),
        **{f"{key}s": np.stack([~mask, mask]) if key == "test_mask" else np.stack([mask, mask])
           for key, mask in masks(graph).items()},
    )  # fmt: skip
    return folder / "g.npz"


def save_dict(graph: Data, folder: Path) -> Path:
    fields = {key: value for key, value in graph.to_dict().items() if isinstance(value, torch.Tensor)}
    torch.save(fields, folder / "g.pt")
    return folder / "g.pt"


def save_data(graph: Data, folder: Path) -> Path:
    torch.save(graph, folder / "g.pt")
    return folder / "g.pt"


def save_mat(graph: Data, folder: Path) -> Path:
    fields = {"Network": adjacency(graph), "Attributes": sp.csc_matrix(graph.x.numpy()), "Label": graph.y.numpy() + 1}
    scipy.io.savemat(folder / "g.mat", fields)
    return folder / "g.mat"


def save_graphml(graph: Data, folder: Path) -> Path:
    network = nx.Graph()
    for node in range(graph.num_nodes):
        features = {f"x{k}": float(value) for k, value in enumerate(graph.x[node])}
        network.add_node(node, label=f"class {int(graph.y[node])}", **features)
    network.add_edges_from(graph.edge_index.t().tolist())
    nx.write_graphml(network, folder / "g.graphml")
    return folder / "g.graphml"


@pytest.mark.parametrize(
    "save", [save_csr, save_dotted, save_edges, save_dict, save_data, save_mat, save_graphml], ids=lambda f: f.__name__
)
def test_every_format_gives_the_same_graph(save: Callable[[Data, Path], Path], graph: Data, tmp_path: Path) -> None:
    path = save(graph, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        read_back = read(path, split=1 if save is save_edges else None)
    validate(read_back)
    assert torch.equal(read_back.edge_index, graph.edge_index)
    assert torch.equal(read_back.x, graph.x)
    assert torch.equal(read_back.y, graph.y)
    assert read_back.name == path.name
    assert read_back.split == ("own" if save in (save_edges, save_dict, save_data) else "random")
    if read_back.split == "own":
        assert torch.equal(read_back.test_mask, graph.test_mask)
    assert len(read_back.file_digest) == 12


@pytest.mark.parametrize("suffix", [".edgelist", ".csv", ".npz"])
def test_edges_alone_take_labels_and_features_from_other_files(graph: Data, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"g{suffix}"
    if suffix == ".npz":
        sp.save_npz(path, adjacency(graph))
    else:
        separator = "," if suffix == ".csv" else " "
        pairs = graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]].t().tolist()
        path.write_text("# two nodes a line\n" + "".join(f"{u}{separator}{v}\n" for u, v in pairs), "utf-8")
    with pytest.raises(DatasetError, match="has no labels, one class a node"):
        read(path)
    (tmp_path / "y.txt").write_text("\n".join(map(str, graph.y.tolist())), "utf-8")
    np.save(tmp_path / "x.npy", graph.x.numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        read_back = read(path, labels=tmp_path / "y.txt", features=tmp_path / "x.npy")
    assert torch.equal(read_back.edge_index, graph.edge_index)
    assert torch.equal(read_back.y, graph.y)
    assert torch.equal(read_back.x, graph.x)


def test_what_is_changed_is_said(tmp_path: Path) -> None:
    n = 60
    ring = np.arange(n)
    edges = np.concatenate([np.stack([ring, np.roll(ring, 1)]), [[0, 1, 5], [1, 0, 5]]], axis=1)
    labels = np.where(ring < 30, 3.0, 7.0)
    labels[[0, 59]] = [np.nan, -1]
    weights = np.ones(edges.shape[1])
    weights[2] = 2.5
    np.savez(tmp_path / "ring.npz", edges=edges, edge_weight=weights, y=labels, colour=ring)
    with pytest.warns(UserWarning, match=r"ring\.npz: the 2 classes, from 3 to 7, were numbered from 0;") as told:
        data = read(tmp_path / "ring.npz")
    for note in (
        "2 nodes have no label, and are neither trained on nor evaluated",
        "no features: each node has one of its own",
        "59 edges had one direction only, and are taken in both",  # all but (0, 1), which is there both ways
        "1 self-loops were dropped",
        "1 duplicates were dropped",
        "1 weights other than 1 were forgotten",
        "not read: colour",
    ):
        assert note in str(told[0].message)
        assert note in data.notes
    assert data.y[[0, 1, 30, 59]].tolist() == [-1, 0, 1, -1]
    assert data.edge_index.shape == (2, 2 * n)
    whole = data.train_mask | data.val_mask | data.test_mask
    assert whole.sum() == n - 2
    assert not bool(whole[[0, 59]].any())


def test_a_node_without_a_label_is_taken_out_of_the_masks_of_the_file(graph: Data, tmp_path: Path) -> None:
    y = graph.y.clone()
    hidden = graph.train_mask.nonzero().flatten()[:2]
    y[hidden] = -100
    torch.save({"edge_index": graph.edge_index, "x": graph.x, "y": y, **{k: graph[k] for k in masks(graph)}},
               tmp_path / "g.pt")  # fmt: skip
    with pytest.warns(UserWarning, match="2 nodes without a label were taken out of the masks"):
        data = read(tmp_path / "g.pt")
    assert data.train_mask.sum() == graph.train_mask.sum() - 2
    model = build("gcn", data.num_features, 4)
    training.fit(model, data, epochs=2)
    assert 0 <= training.evaluate(model, data, data.test_mask) <= 100


def test_a_public_split_is_twenty_a_class_and_the_published_sizes(tmp_path: Path) -> None:
    graph = contextual_sbm(2000, seed=0)
    torch.save({"edge_index": graph.edge_index, "x": graph.x, "y": graph.y}, tmp_path / "g.pt")
    data = read(tmp_path / "g.pt", split="public", split_seed=3)
    assert [int(data[key].sum()) for key in ("train_mask", "val_mask", "test_mask")] == [80, 500, 1000]
    assert torch.bincount(data.y[data.train_mask]).tolist() == [20] * 4
    other = read(tmp_path / "g.pt", split="public", split_seed=4)
    assert not torch.equal(data.train_mask, other.train_mask)


class Evil:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evidence",)


def test_no_pickle_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: Data) -> None:
    monkeypatch.chdir(tmp_path)
    evil: Any = np.array([Evil()], dtype=object)
    np.savez("labels.npz", edges=graph.edge_index.numpy(), labels=evil)
    Path("g.npz").write_bytes(pickle.dumps(Evil()))
    torch.save({"edge_index": graph.edge_index, "y": Evil()}, "g.pt")
    np.save("y.npy", evil)
    for file, complaint in (
        ("labels.npz", "a pickle can run code, so none is loaded. If you trust the file, convert it once"),
        ("g.npz", "is not an npz file of plain arrays"),
        ("g.pt", r'cannot be loaded with weights_only=True .*torch\.save\(data\.to_dict\(\), "mine\.pt"\)'),
    ):
        with pytest.raises(DatasetError, match=complaint):
            read(file)
    sp.save_npz("a.npz", adjacency(graph))
    with pytest.raises(DatasetError, match=r"y\.npy is not an \.npy file of numbers"):
        read("a.npz", labels="y.npy")
    assert not Path("evidence").exists()


def test_a_variable_in_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: Data) -> None:
    save_csr(graph, tmp_path)
    monkeypatch.setenv("MY_GRAPHS", str(tmp_path))
    assert torch.equal(read("$MY_GRAPHS/g.npz").y, graph.y)
    monkeypatch.delenv("MY_GRAPHS")
    with pytest.raises(DatasetError, match=r"the variable \$MY_GRAPHS is not set"):
        read("$MY_GRAPHS/g.npz")


RING = np.stack([np.arange(40), np.roll(np.arange(40), 1)])
HALVES = np.arange(40) // 20


@pytest.mark.parametrize(
    ("arrays", "options", "complaint"),
    [
        ({"labels": HALVES}, {}, "holds no edges under 'labels'; expected either a sparse matrix"),
        ({"edges": RING, "adj": np.eye(40), "y": HALVES}, {}, "an adjacency matrix and a list of edges"),
        ({"edges": RING}, {}, "has no labels, one class a node"),
        ({"edges": RING, "y": HALVES, "labels": HALVES}, {}, "'y' and 'labels' may each be the labels"),
        ({"edges": RING, "y": HALVES[:30]}, {}, "the edges are between nodes 0 and 39; expected 0 to 29"),
        ({"edges": RING - 1, "y": HALVES}, {}, "the edges are between nodes -1 and 38; expected 0 to 39"),
        ({"edges": RING + 0.5, "y": HALVES}, {}, r"the edges are float64 \[2, 40\]; expected whole numbers"),
        ({"adj": np.ones((3, 4)), "y": HALVES}, {}, r"the adjacency matrix is \[3, 4\]; expected a square one"),
        ({"edges": RING, "y": HALVES * 0}, {}, "all labels are 0; expected at least two classes"),
        ({"edges": RING, "y": HALVES - 5}, {}, "a label is -5; expected classes 0, 1, …"),
        ({"edges": RING, "y": HALVES + 0.5}, {}, "a label is 0.5; expected classes"),
        ({"edges": RING, "y": np.ones((40, 3))}, {}, "with several classes at a node; expected one class a node"),
        ({"edges": RING, "y": HALVES, "x": np.full((40, 2), np.nan)}, {}, "80 features are not finite"),
        ({"edges": RING, "y": HALVES, "x": np.ones((40, 2, 2))}, {}, r"the features are float64 \[40, 2, 2\]"),
        ({"edges": RING, "y": HALVES, "edge_weight": -np.ones(40)}, {}, "a weight is negative or not finite"),
        ({"edges": RING, "y": HALVES, "edge_weight": np.ones(39)}, {}, r"the weights are float64 \[39\]"),
        ({"edges": RING, "y": HALVES}, {"split": "prognn"}, "no split is called 'prognn'"),
        ({"edges": RING, "y": HALVES}, {"split": "own"}, "has no train_mask and no val_mask and no test_mask; take"),
        ({"edges": RING, "y": HALVES}, {"split": "public"}, "a public split wants 20 of each class and 1500 more"),
        ({"edges": RING, "y": HALVES}, {"labels": HALVES}, "has labels of its own; leave the others out"),
        ({"edges": RING, "y": np.arange(40)}, {}, "cannot be split 10/10/80 by class"),
        ({"edges": RING, "y": HALVES, "train_mask": HALVES, "val_mask": 1 - HALVES, "test_mask": HALVES}, {},
         "node 20 is in two of the masks"),
        ({"edges": RING, "y": HALVES, "train_mask": np.ones(7), "val_mask": HALVES, "test_mask": HALVES}, {},
         r"the train mask is float64 \[7\]; expected bool \[40\]"),
        ({"edges": RING, "y": HALVES, **{f"{part}_masks": np.ones((40, 3), dtype=bool) for part in
         ("train", "val", "test")}}, {"split": 3}, "split 3 given, and .* has 3; expected 0 to 2"),
        ({"edges": RING, "y": HALVES, **{f"idx_{part}": np.array([k]) for k, part in
         enumerate(("train", "val", "test"))}}, {"split": 1}, "split 1 given, and .* has one"),
        ({"edges": RING, "y": HALVES, **{f"{part}_masks": np.ones((40, 3), dtype=bool) for part in
         ("train", "val", "test")}}, {"split": -1}, "split -1 given, and .* has several; expected the number of one"),
        ({"edges": RING, "y": HALVES}, {"split": 1.5}, r"no split is called 1\.5"),
        ({"edges": RING, "y": HALVES}, {"split": True}, "no split is called True"),
        ({"edges": RING.astype(str), "y": HALVES}, {}, "the edges are <U.* expected real numbers"),
        ({"edges": RING + 1j, "y": HALVES}, {}, "the edges are complex128 .* expected real numbers"),
        ({"edges": RING * 1e30, "y": HALVES}, {}, r"the edges are float64 \[2, 40\]; expected whole numbers"),
        ({"edges": RING, "y": HALVES, "x": np.array(3.0)}, {}, r"the features are float64 \[\]; expected real numbers"),
        ({"edges": RING, "y": np.array(3)}, {}, r"the labels are int64 \[\]; expected one class a node"),
        ({"edges": RING, "y": HALVES, "x": np.ones((40, 0))}, {}, r"the features are \[40, 0\], none at all"),
        ({"adj": np.ones((1, 40, 40)), "y": HALVES}, {}, r"the adjacency matrix is \[1, 40, 40\]; expected a sq"),
        ({"edges": RING, "y": np.full(40, np.inf)}, {}, "a label is inf; expected classes"),
        ({"edges": RING, "y": np.array(["one"] * 40)}, {}, "all labels are one; expected at least two classes"),
        ({"edges": RING, "y": np.array([""] * 40)}, {}, "no node has a label"),
    ],
)  # fmt: skip
def test_a_bad_file_is_answered_in_one_sentence(
    tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], complaint: str
) -> None:
    np.savez(tmp_path / "g.npz", **arrays)
    with pytest.raises(DatasetError, match=complaint) as caught:
        read(tmp_path / "g.npz", **options)
    assert "g.npz" in str(caught.value) or "split" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("g.npz", b"no archive", "is not an npz file of plain arrays"),
        ("g.mat", b"no matlab", "is not a MATLAB file"),
        ("g.pt", b"no torch", "cannot be loaded with weights_only=True"),
        ("g.graphml", b"<no graphml", "is not a GraphML file"),
        ("g.edgelist", b"0 1\n2\n", "has lines of 1, 2 columns; expected lines of two whole numbers"),
        ("g.csv", b"source,target\n0,1\n", "expected lines of two whole numbers from 0 and perhaps a weight"),
        ("g.txt", b"\xff\xfe", "is no text"),
        ("g.edges", b"# nothing\n", "has no edges"),
        ("g.txt", b"0 99999999999999999999\n1 2\n", "expected lines of two whole numbers"),
        ("g.json", b"{}", r"expected a file that ends in \.npz, \.mat, \.pt"),
    ],
)
def test_bytes_of_another_kind(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=complaint):
        read(tmp_path / name)


def test_a_damaged_member_of_an_npz(tmp_path: Path) -> None:
    file = tmp_path / "g.npz"
    np.savez_compressed(file, edges=RING, y=HALVES)
    content = bytearray(file.read_bytes())
    content[60:90] = bytes(30)
    file.write_bytes(content)
    with pytest.raises(DatasetError, match="is not an npz file of plain arrays"):
        read(file)


def test_marks_and_capitals_of_other_programs_change_nothing(tmp_path: Path) -> None:
    """Excel begins a text with a byte order mark, which is no part of the first label or node."""
    lines = "\n".join(f"{u},{v}" for u, v in RING.T)
    (tmp_path / "g.csv").write_text(lines, encoding="utf-8-sig")
    (tmp_path / "y.txt").write_text("\n".join("ab"[y] for y in HALVES), encoding="utf-8-sig")
    data = read(tmp_path / "g.csv", labels=tmp_path / "y.txt")
    assert data.y.tolist() == HALVES.tolist()
    np.save(tmp_path / "y.npy", HALVES)
    (tmp_path / "y.npy").rename(tmp_path / "Y.NPY")
    assert read(tmp_path / "g.csv", labels=tmp_path / "Y.NPY").y.tolist() == HALVES.tolist()
    with pytest.raises(DatasetError, match=r"z\.npy does not exist; expected a file of labels"):
        read(tmp_path / "g.csv", labels=tmp_path / "z.npy")


def test_names_of_classes_leave_a_node_without_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "g.npz", edges=RING, y=[*np.array(["b", "a"])[HALVES[:39]], ""])
    data = read(tmp_path / "g.npz")
    assert data.y[:39].tolist() == (1 - HALVES)[:39].tolist()
    assert int(data.y[39]) == -1
    assert "1 nodes have no label" in data.notes


def test_cells_of_matlab_are_names(tmp_path: Path) -> None:
    ring = sp.csr_matrix((np.ones(40), tuple(RING)), shape=(40, 40))
    cells = np.array(["one", "two"], dtype=object)[HALVES]
    scipy.io.savemat(tmp_path / "g.mat", {"Network": ring, "Label": cells})
    assert read(tmp_path / "g.mat").y.tolist() == HALVES.tolist()


def test_one_mask_beside_several_belongs_to_each_split(tmp_path: Path) -> None:
    """As in WikiCS: twenty splits for training and validation, and one for the test."""
    node = np.arange(40)
    train = np.stack([node % 4 == k for k in range(2)], axis=1)
    np.savez(
        tmp_path / "g.npz", edges=RING, y=HALVES, train_mask=train, val_mask=train[:, ::-1], test_mask=node % 4 > 1
    )
    for number in range(2):
        data = read(tmp_path / "g.npz", split=number)
        assert data.train_mask.tolist() == train[:, number].tolist()
        assert data.test_mask.tolist() == (node % 4 > 1).tolist()


@pytest.mark.parametrize(
    ("node", "edge", "complaint"),
    [
        (dict.fromkeys(("train_mask", "val_mask", "test_mask"), "False"), {}, "of a node is 'False'; expected a bool"),
        ({"train_mask": True, "idx_train": False}, {}, "several attributes may each be the train mask"),
        ({}, {"weight": "heavy"}, "the weight of an edge is 'heavy'; expected a number"),
    ],
)
def test_an_attribute_of_graphml_that_cannot_be_read(
    tmp_path: Path, node: dict[str, Any], edge: dict[str, Any], complaint: str
) -> None:
    graph = nx.cycle_graph(40)
    for k in graph:
        graph.nodes[k].update(label=k // 20, **node)
    for u, v in graph.edges:
        graph.edges[u, v].update(edge)
    nx.write_graphml(graph, tmp_path / "g.graphml")
    with pytest.raises(DatasetError, match=complaint):
        read(tmp_path / "g.graphml")


@pytest.mark.parametrize("x", [torch.ones(40, 2, 2).to_sparse(), [[1.0], [2.0, 3.0]], {"a": 1}])
def test_features_of_another_kind_in_a_saved_dictionary(tmp_path: Path, x: Any) -> None:
    torch.save({"x": x, "edge_index": torch.from_numpy(RING), "y": torch.from_numpy(HALVES)}, tmp_path / "g.pt")
    with pytest.raises(DatasetError, match="the features"):
        read(tmp_path / "g.pt")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere\.npz does not exist; expected a file that ends in"):
        read(tmp_path / "nowhere.npz")
    with pytest.raises(DatasetError, match="is a folder"):
        read(tmp_path)


@pytest.mark.parametrize("number", [0, 9])
def test_the_ten_splits_of_a_heterophilous_graph(number: int) -> None:
    folder = os.environ.get("CONTRACTIVE_GNN_DATA")
    file = Path(folder or "nowhere") / "heterophilous" / "wisconsin.npz"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    with pytest.warns(UserWarning, match="450 edges had one direction only"):
        data = read(file, split=number)
    with np.load(file) as archive:
        assert np.array_equal(data.train_mask.numpy(), archive["train_masks"][number])
    assert (data.num_nodes, data.edge_index.shape[1]) == (251, 900)
    with pytest.raises(DatasetError, match="split 10 given"):
        datasets.read(file, split=10)
