from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn.deeprobust import (
    DeepRobustMissing,
    import_deeprobust,
    mended,
    replaced,
    stand_ins,
    to_arrays,
    train_gcn,
)

MODULES = ["graph.defense", "graph.global_attack", "graph.targeted_attack", "graph.defense_pyg", "graph.data"]


@pytest.fixture
def triangles() -> Data:
    """Two triangles joined by an edge."""
    edges = torch.tensor([[0, 0, 1, 3, 3, 4, 2], [1, 2, 2, 4, 5, 5, 3]])
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    mask = torch.tensor([True, False, False] * 2)
    return Data(
        x=torch.nn.functional.one_hot(y).float(),
        edge_index=torch.cat([edges, edges.flip(0)], dim=1),
        y=y,
        train_mask=mask,
        val_mask=mask.roll(1),
        test_mask=mask.roll(2),
    )


@pytest.mark.parametrize("module", MODULES)
def test_it_imports_and_leaves_nothing_behind(module: str) -> None:
    installed = {name: name in sys.modules for name in ("torch_sparse", "torch_scatter")}
    assert import_deeprobust(module).__name__ == f"deeprobust.{module}"
    assert {name: name in sys.modules for name in ("torch_sparse", "torch_scatter")} == installed


def test_where_deeprobust_is_missing_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "deeprobust"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "deeprobust", None)
    with pytest.raises(DeepRobustMissing, match=r"pip install 'contractive-gnn\[attacks\]'") as caught:
        import_deeprobust("graph.defense")
    assert isinstance(caught.value, ImportError)


def test_installed_torch_sparse_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(sys)("torch_sparse")
    monkeypatch.setitem(sys.modules, "torch_sparse", real)
    with stand_ins.stand_ins():
        assert importlib.import_module("torch_sparse") is real
        assert importlib.import_module("torch_scatter").scatter_add
    assert sys.modules["torch_sparse"] is real


def test_stand_ins_do_what_they_stand_for() -> None:
    index = torch.tensor([[2, 0, 2], [1, 1, 1]])
    merged, weight = stand_ins._coalesce(index, torch.tensor([1.0, 2.0, 4.0]), m=3, n=3, op="sum")
    assert merged.tolist() == [[0, 2], [1, 1]]
    assert weight.tolist() == [2.0, 5.0]
    source = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    summed = stand_ins._scatter_add(source, torch.tensor([1, 0, 1]), dim=-2, dim_size=3)
    assert summed.tolist() == [[2.0, 20.0], [5.0, 50.0], [0.0, 0.0]]
    with pytest.raises(DeepRobustMissing, match="needs torch_sparse itself"):
        stand_ins.absent()


def test_mends_are_undone(capsys: pytest.CaptureFixture[str]) -> None:
    import_deeprobust("graph.global_attack")
    utils, mettack = import_deeprobust("graph.utils"), import_deeprobust("graph.global_attack.mettack")
    before = utils.normalize_adj_tensor, mettack.tqdm, hasattr(np, "in1d")

    @mended()
    def inside() -> None:
        assert np.in1d([1, 2], [2, 3]).tolist() == [False, True]  # type: ignore[attr-defined]  # noqa: NPY201
        assert np.row_stack([[1], [2]]).tolist() == [[1], [2]]  # type: ignore[attr-defined]  # noqa: NPY201
        assert list(mettack.tqdm(range(3), desc="hidden")) == [0, 1, 2]
        mettack.print("hidden")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        inside()
    assert (utils.normalize_adj_tensor, mettack.tqdm, hasattr(np, "in1d")) == before
    assert "print" not in vars(mettack)
    assert capsys.readouterr() == ("", "")


def test_replaced_puts_back_what_was_there() -> None:
    class Owner:
        there = 1

    with replaced(Owner, there=2, new=3):
        assert (Owner.there, Owner.new) == (2, 3)  # type: ignore[attr-defined]
    assert Owner.there == 1
    assert not hasattr(Owner, "new")


def test_the_normalisation_is_the_same_with_the_same_gradient() -> None:
    utils = import_deeprobust("graph.utils")
    generator = torch.Generator().manual_seed(0)
    adjacency = torch.rand(20, 20, generator=generator, dtype=torch.float32)
    adjacency[3] = 0
    adjacency[3, 3] = -1  # a row that sums to 0 with its self-loop: D^-½ is 0 there
    direction = torch.rand(20, 20, generator=generator)
    results = []
    for block in (mended, lambda: replaced(utils)):
        variable = adjacency.clone().requires_grad_()
        with block():
            normalised = utils.normalize_adj_tensor(variable)
            sparse = utils.normalize_adj_tensor((adjacency > 0.5).float().to_sparse(), sparse=True).to_dense()
        kept = torch.arange(20) != 3
        (normalised * direction)[kept][:, kept].sum().backward()
        assert variable.grad is not None
        results.append((normalised.detach(), variable.grad[kept][:, kept], sparse))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_arrays_are_what_deeprobust_takes(triangles: Data) -> None:
    arrays = to_arrays(triangles)
    assert arrays.adjacency.toarray()[2].tolist() == [1, 1, 0, 1, 0, 0]
    assert (arrays.adjacency != arrays.adjacency.T).nnz == 0
    assert arrays.features.toarray().tolist() == triangles.x.tolist()
    assert arrays.n_classes == 2
    assert (arrays.train.tolist(), arrays.val.tolist(), arrays.test.tolist()) == ([0, 3], [1, 4], [2, 5])


@pytest.mark.parametrize("patience", [30, None])
def test_the_surrogate_is_seeded_and_learns(triangles: Data, patience: int | None) -> None:
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = train_gcn(triangles, patience=patience)
        assert not model.training
        outputs.append(model.predict().detach())
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[0].argmax(1), triangles.y)


def test_nobody_else_imports_deeprobust(repository: Path) -> None:
    """Neither by a statement, nor by the name of one of its modules in a text."""
    found = set()
    for folder in ("contractive_gnn", "attacks", "datasets", "docs/experiments", "examples"):
        for file in (repository / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    names = [f"{alias.name}." for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [] if node.level else [f"{node.module}."]
                else:
                    names = [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
                if any(name.startswith("deeprobust.") for name in names):
                    found.add(file.relative_to(repository).as_posix())
    assert found == {"contractive_gnn/deeprobust/importing.py", "contractive_gnn/deeprobust/mending.py"}
