from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn import attacks
from contractive_gnn.attacks import AttackResult, Budget


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def test_results_survive_saving(graph: Data, tmp_path: Path) -> None:
    result = attacks.get("random", edit="flip").run(graph, Budget(flips=4), targets=torch.tensor([10, 20]))
    path = tmp_path / "attacked.npz"
    result.save(path)
    result.save(path)  # overwrites
    assert [entry.name for entry in tmp_path.iterdir()] == ["attacked.npz"]
    loaded = AttackResult.load(path)
    assert loaded.budget == result.budget
    assert loaded.seconds == result.seconds
    assert loaded.provenance == result.provenance
    assert torch.equal(loaded.edge_flips, result.edge_flips)
    assert torch.equal(loaded.feature_flips, result.feature_flips)
    assert sorted(loaded.data.keys()) == sorted(result.data.keys())
    for key in result.data.keys():  # noqa: SIM118
        assert_same(loaded.data[key], result.data[key])
        if isinstance(result.data[key], Tensor):
            assert loaded.data[key].dtype == result.data[key].dtype


def test_what_cannot_be_saved_is_named(graph: Data, tmp_path: Path) -> None:
    graph.names = ["a", "b"]
    result = attacks.get("random", edit="flip").run(graph, Budget(flips=1))
    with pytest.raises(TypeError, match=r"data\.names is a list"):
        result.save(tmp_path / "attacked.npz")
    assert not list(tmp_path.iterdir())


def test_other_files_are_not_taken_for_results(graph: Data, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AttackResult.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", header=np.array([{"format": 1}], dtype=object))
    for name in ("text.npz", "other.npz", "pickle.npz"):
        with pytest.raises(ValueError, match=r"not a graph saved by AttackResult\.save"):
            AttackResult.load(tmp_path / name)


def test_a_result_prints_as_one_line(graph: Data) -> None:
    result = attacks.get("random").run(graph, Budget(flips=3))
    assert repr(result).startswith("AttackResult(3 flips by random, ")
    assert "\n" not in repr(result)
