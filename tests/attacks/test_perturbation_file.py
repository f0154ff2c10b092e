"""Perturbations in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import contractive_gnn as cg
from contractive_gnn.attacks.perturbation_file import (
    PerturbationKey,
    PerturbedGraph,
    load_perturbations,
    save_perturbations,
)


@pytest.mark.parametrize("binary", [True, False])
def test_what_is_saved_comes_back_and_is_the_graph_of_the_attack(tmp_path: Path, binary: bool) -> None:
    data = cg.contextual_sbm(60, seed=0)
    if binary:
        data.x = (data.x > 0).float()
    found = {seed: cg.attack(None, data, "random", flips=5, seed=seed) for seed in (0, 1)}
    flips = {("evasion", "gcn"): found[0].edge_flips, ("poisoning", "gcn-random"): found[1].edge_flips}
    save_perturbations(tmp_path / "found.npz", PerturbedGraph.of(data, flips, name="mine", split=3))
    graph = load_perturbations(tmp_path / "found.npz")["mine"]
    assert set(graph.flips) == {
        PerturbationKey("evasion", "gcn", 3, 5),
        PerturbationKey("poisoning", "gcn-random", 3, 5),
    }
    assert torch.equal(graph.data.x, data.x)
    assert graph.data.x.dtype == data.x.dtype
    for (key, flipped), result in zip(graph.flips.items(), found.values(), strict=True):
        attacked = graph.attacked(key)
        assert torch.equal(flipped, result.edge_flips)
        for name in ("y", "train_mask", "val_mask", "test_mask"):
            assert torch.equal(attacked[name], data[name])
        expected = torch.zeros(60, 60, dtype=torch.bool)
        expected[tuple(result.data.edge_index)] = True
        edges = torch.zeros(60, 60, dtype=torch.bool)
        edges[tuple(attacked.edge_index)] = True
        assert torch.equal(edges, expected)
        assert attacked.num_edges == result.data.num_edges
    with pytest.raises(KeyError, match="no split 0"):
        graph.clean(0)


def test_a_file_of_the_unit_test_is_read_as_others_write_it(tmp_path: Path) -> None:
    """Edges in either order, a budget without zeros, features by their coordinates alone."""
    arrays = {
        "cora_ml/dataset/adjacency": np.array([[0, 1], [2, 1]], dtype=np.int32),
        "cora_ml/dataset/features": np.array([[0, 0], [1, 2]]),
        "cora_ml/dataset/labels": np.array([0, 1, 1]),
        "cora_ml/splits/0/train": np.array([0]),
        "cora_ml/splits/0/val": np.array([1]),
        "cora_ml/splits/0/test": np.array([2]),
        "cora_ml/perturbations/evasion/gcn/split_0/budget_2": np.array([[2, 1], [2, 0]]),
    }
    np.savez(tmp_path / "unit_test.npz", **arrays)  # type: ignore[arg-type]
    graph = load_perturbations(tmp_path / "unit_test.npz")["cora_ml"]
    assert graph.data.x.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    attacked = graph.attacked(PerturbationKey("evasion", "gcn", 0, 2))
    assert sorted(map(tuple, attacked.edge_index.T.tolist())) == [(0, 1), (0, 2), (1, 0), (2, 0)]
    assert attacked.test_mask.tolist() == [False, False, True]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    data = cg.contextual_sbm(60, seed=0)
    graph = PerturbedGraph.of(data, {("evasion", "gcn"): torch.tensor([[0], [5]])}, name="mine")
    with pytest.raises(ValueError, match="two graphs are called 'mine'"):
        save_perturbations(path, graph, graph)
    with pytest.raises(ValueError, match="no '/'"):
        save_perturbations(path, PerturbedGraph.of(data, {("evasion", "a/b"): torch.tensor([[0], [5]])}, name="mine"))
    with pytest.raises(ValueError, match=r"got 'mine\.py:Net'"):  # FILE.npz:mine.py:Net would mean another one
        save_perturbations(
            path, PerturbedGraph.of(data, {("evasion", "mine.py:Net"): torch.tensor([[0], [5]])}, name="a")
        )
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        load_perturbations(path)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(ValueError, match="layout of the robustness unit test"):
        load_perturbations(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"no \.npz of arrays"):
        load_perturbations(path)
    for flips, reason in (
        (torch.tensor([[0], [60]]), "two different nodes"),
        (torch.tensor([[0, 5], [5, 0]]), "twice"),
    ):
        save_perturbations(path, PerturbedGraph.of(data, {("evasion", "gcn"): flips}, name="mine"))
        with pytest.raises(ValueError, match=reason):
            load_perturbations(path)
    good = {
        "mine/dataset/adjacency": [[0, 1]],
        "mine/dataset/features": [[0, 0], [2, 2]],
        "mine/dataset/labels": [0, 1, 0],
        **{f"mine/splits/0/{part}": [node] for node, part in enumerate(("train", "val", "test"))},
        "mine/perturbations/evasion/gcn/split_0/budget_00001": [[1, 2]],
    }
    for key, value, reason in (
        ("dataset/features", [[0, -1], [2, 2]], "features have an entry outside"),
        ("splits/0/test", [-1], "splits/0/test has a node outside"),
        ("splits/0/test", [3], "splits/0/test has a node outside"),
        ("perturbations/evasion/gcn/split_0/budget_00001", [[1, 2], [0, 2]], "more than its budget"),
    ):
        arrays = {name: np.array(array) for name, array in {**good, f"mine/{key}": value}.items()}
        np.savez(path, **arrays)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=reason):
            load_perturbations(path)
    np.savez(path, **{name: np.array(array) for name, array in {**good, "mine/dataset/features": []}.items()})  # type: ignore[arg-type]
    assert load_perturbations(path)["mine"].data.x.shape == (3, 0)


def test_a_split_is_read_from_any_form_of_a_mask() -> None:
    data = cg.contextual_sbm(60, seed=0)
    flips = {("evasion", "gcn"): torch.tensor([[0], [5]])}
    expected = PerturbedGraph.of(data, flips, name="mine").splits[0]["test"]
    data.test_mask = data.test_mask.nonzero().flatten()
    assert torch.equal(PerturbedGraph.of(data, flips, name="mine").splits[0]["test"], expected)
