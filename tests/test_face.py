"""``import contractive_gnn as cg``: the names that it promises, and what it costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import contractive_gnn as cg


def run(code: str, cwd: Path) -> str:
    """What a fresh interpreter prints."""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_every_promised_name_is_there() -> None:
    assert len(cg.__all__) == len(set(cg.__all__)) > 25
    for name in cg.__all__:
        assert getattr(cg, name).__name__ == name
        assert inspect.getdoc(getattr(cg, name)), name
    assert set(cg.__all__) <= set(dir(cg))
    assert not {"Any", "importlib", "annotations", "needs"} & set(dir(cg))
    assert cg.nn is importlib.import_module("contractive_gnn.nn")


def test_type_checkers_read_the_names_that_are_found() -> None:
    """Each name is written three times: for type checkers, for ``__all__`` and for ``__getattr__``."""
    (guarded,) = (node for node in ast.parse(inspect.getsource(cg)).body if isinstance(node, ast.If))
    read = {
        alias.name: getattr(importlib.import_module(node.module), alias.name)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    assert set(read) == set(cg.__all__) == set(cg._PLACE_OF)
    assert {name: getattr(cg, name) for name in read} == read


def test_a_name_that_there_is_not_is_answered_with_the_closest() -> None:
    with pytest.raises(
        AttributeError, match=r"no name in contractive_gnn is called 'FlowConw'\. Did you mean 'FlowConv'"
    ):
        _ = cg.FlowConw
    assert not hasattr(cg, "Siege")


def test_the_face_loads_nothing(tmp_path: Path) -> None:
    code = """
import json, sys
import contractive_gnn as cg
before = [name for name in ("torch", "numpy", "torch_geometric") if name in sys.modules]
from contractive_gnn import fit
ours = fit.__module__.startswith("contractive_gnn.training")
print(json.dumps([before, ours, "contractive_gnn.bench" in sys.modules]))
"""
    assert json.loads(run(code, tmp_path)) == [[], True, False]


HEAVY = ["typer", "rich", "matplotlib", "sklearn", "pooch", "networkx", "deeprobust", "optuna", "torchdiffeq"]


def test_the_core_imports_nothing_that_is_heavy(tmp_path: Path) -> None:
    """Beside what PyG brings."""
    code = f"""
import json, sys, torch_geometric
before = set(sys.modules)
import contractive_gnn.nn
nn = sorted(set({HEAVY!r}) & (set(sys.modules) - before))
import contractive_gnn.attacks, contractive_gnn.datasets, contractive_gnn.testing, contractive_gnn.training
import contractive_gnn as cg
for name in set(cg.__all__) - {{'benchmark'}}:
    getattr(cg, name)
print(json.dumps([nn, sorted(set({HEAVY!r}) & (set(sys.modules) - before))]))
"""
    assert json.loads(run(code, tmp_path)) == [[], []]


def test_the_core_works_without_the_extras(tmp_path: Path) -> None:
    code = f"""
import builtins
imported = builtins.__import__
def present(name, *arguments):
    if name.partition(".")[0] in {sorted({*HEAVY} - {"sklearn", "networkx"})!r}:  # torch brings networkx
        raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
    return imported(name, *arguments)
builtins.__import__ = present
import contractive_gnn as cg
data = cg.contextual_sbm(60, seed=0)
model = cg.build("linf-diffusion", data.num_features, 4)
cg.fit(model, data, epochs=2)
print(cg.attack(model, data, "whitebox-pgd", flips=2, epochs=2, fine_epochs=0, samples=1, swaps=1).n_flips)
try:
    cg.benchmark
except ImportError as error:
    print(error)
from contractive_gnn.__main__ import main
main()
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    lacks = "needs rich, which is not installed; pip install 'contractive-gnn[bench]'"
    assert ran.stdout.splitlines() == ["2", f"contractive_gnn.benchmark {lacks}"], ran.stderr
    assert ran.returncode == 1
    said = "contractive-gnn: the command line needs typer, which is not installed; pip install 'contractive-gnn[bench]'"
    assert ran.stderr.splitlines()[-1] == said


def test_one_call_attacks() -> None:
    data = cg.contextual_sbm(60, seed=0)
    model = cg.build("gcn", data.num_features, 4)
    before = [parameter.clone() for parameter in model.parameters()]
    result = cg.attack(model, data, "whitebox-pgd", flips=3, seed=1, epochs=3, fine_epochs=1, samples=1, swaps=2)
    assert result.n_flips <= 3
    assert (result.provenance["seed"], result.provenance["params"]["epochs"]) == (1, 3)
    assert result.budget == cg.Budget(flips=3)
    assert all(map(torch.equal, before, model.parameters()))
    again = cg.attack(None, data, "random", fraction=0.1)
    assert again.n_flips == round(0.1 * data.num_edges / 2)
    with pytest.raises(ValueError, match="exactly one of flips, fraction"):
        cg.attack(model, data, "random")
    with pytest.raises(ValueError, match=r"no attack is called 'prbdc'\. Did you mean 'prbcd'"):
        cg.attack(model, data, "prbdc", flips=1)
    with pytest.raises(ValueError, match="needs the model that it attacks"):
        cg.attack(None, data, "whitebox-pgd", flips=1)
