"""The arrows between modules run one way: no circle, and none from a lower room to a higher one.

Every import counts: at the top of a module, inside a function, and for type checkers alone.
"""

from __future__ import annotations

import ast
import inspect
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest
import torch_geometric.nn

from contractive_gnn import nn

PACKAGE = "contractive_gnn"

#: from the lowest to the highest: a module imports from its own room and from those before it. A package's name stands
#: for all its modules that are not named themselves.
ROOMS: list[tuple[str, tuple[str, ...]]] = [
    (
        "words and data",
        (
            *("deprecated", "extras", "names", "registry", "checks", "seeding", "graph", "inputs"),
            *("distinct", "heap", "lines", "palette", "partition", "provenance", "remembered"),
            *("activations", "norms", "trainable", "former", "deeprobust"),
        ),
    ),
    ("compiled code", ("compiled", "kernels", "splines")),
    ("operators and schemes", ("operators", "integrators")),
    ("dynamics", ("dynamics",)),
    ("layers", ("nn",)),
    ("models by name", ("nn.models",)),
    ("data and training", ("datasets", "training")),
    ("trained models", ("pretrained",)),
    ("certificates and attacks", ("certificates", "certify", "attacks")),
    ("inverse problems", ("inverse",)),
    ("conformance suites", ("testing",)),
    ("benchmark", ("plugins", "bench", "benchmark")),
    ("command line", ("bench.cli", "__main__", "")),
]
#: a package's own file, which names what its rooms hold, stands in the highest of them
FACES = {"nn": "nn.models"}


@dataclass(frozen=True)
class Arrow:
    """An import."""

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source} imports {self.target} (line {self.line})"


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package in a checkout, by its name without the package's."""
    folders = {"": root / PACKAGE, "attacks": root / "attacks", "datasets": root / "datasets"}
    found = {}
    for package, folder in folders.items():
        for file in folder.rglob("*.py"):
            parts = [package, *file.relative_to(folder).with_suffix("").parts]
            found[".".join(part for part in parts if part not in ("", "__init__"))] = file
    return found


def arrows(files: Mapping[str, Path]) -> Iterator[Arrow]:
    """Every import of one module of the package by another."""
    for module, file in files.items():
        within = module if file.name == "__init__.py" else module.rpartition(".")[0]
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = [PACKAGE, *filter(None, within.split("."))]
                    base = ".".join([*above[: len(above) + 1 - node.level], *filter(None, [base])])
                # what is imported from a package may be one of its modules
                names = [f"{base}.{alias.name}" for alias in node.names]
                names = [name if _inside(name) in files else base for name in names]
            else:
                continue
            for target in dict.fromkeys(map(_inside, names)):
                if target in files and target != module:
                    yield Arrow(module, target, node.lineno)


def _inside(name: str) -> str | None:
    """The name without the package's; None for other packages."""
    first, _, rest = name.partition(".")
    return rest if first == PACKAGE else None


def height(module: str) -> int:
    """The number of a module's room: that of the longest name that it begins with."""
    module = FACES.get(module, module)
    named = {name: number for number, (_, names) in enumerate(ROOMS) for name in names}
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in named:
            return named[name]
    raise AssertionError(f"{PACKAGE}.{module} is in no room of tests/test_imports.py; say in which")


def circles(found: list[Arrow]) -> list[list[str]]:
    """Modules that import each other, around."""
    graph = nx.DiGraph((arrow.source, arrow.target) for arrow in found)
    return [sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1]


def upward(found: list[Arrow]) -> list[str]:
    """The arrows from a lower room to a higher one."""
    return [str(arrow) for arrow in found if height(arrow.source) < height(arrow.target)]


def test_no_modules_import_each_other(repository: Path) -> None:
    assert circles(list(arrows(modules(repository)))) == []


def test_no_arrow_leads_to_a_higher_room(repository: Path) -> None:
    files = modules(repository)
    assert len(files) > 100
    assert all(height(module) >= 0 for module in files)
    assert upward(list(arrows(files))) == []


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("graph.py", "from contractive_gnn.nn import FlowConv\n", "graph imports nn (line 1)"),
        ("seeding.py", "def late():\n    from contractive_gnn import training\n", "seeding imports training (line 2)"),
        ("dynamics/base.py", "from ..plugins import load_plugins\n", "dynamics.base imports plugins (line 1)"),
        ("nn/caches.py", "import contractive_gnn.nn.models\n", "nn.caches imports nn.models (line 1)"),
        ("nn/caches.py", "from . import build\n", "nn.caches imports nn (line 1)"),
        (
            "certificates/budget.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from contractive_gnn.bench.results import Result\n",
            "certificates.budget imports bench.results (line 3)",
        ),
    ],
)
def test_a_wrong_arrow_is_found(repository: Path, tmp_path: Path, module: str, line: str, complaint: str) -> None:
    for folder in (PACKAGE, "attacks", "datasets"):
        shutil.copytree(repository / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / PACKAGE / module).write_text(line, "utf-8")
    assert complaint in upward(list(arrows(modules(tmp_path))))


def test_a_circle_is_found(repository: Path, tmp_path: Path) -> None:
    for folder in (PACKAGE, "attacks", "datasets"):
        shutil.copytree(repository / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / PACKAGE / "names.py").open("a", encoding="utf-8") as file:
        file.write("def late():\n    from contractive_gnn.registry import Registry\n")
    assert circles(list(arrows(modules(tmp_path)))) == [["names", "registry"]]


def test_no_name_of_ours_is_one_of_pyg_with_another_signature() -> None:
    """Who knows ``torch_geometric.nn.GCN`` reads ``GCN(…)`` as that one."""

    def signature(owner: object, name: str) -> list[list[str]]:
        made = getattr(owner, name)
        calls = [made, made.forward] if isinstance(made, type) else [made]
        return [list(inspect.signature(call).parameters) for call in calls]

    shared = [name for name in nn.__all__ if hasattr(torch_geometric.nn, name)]
    assert shared == ["Linear"]  # PyG's own, which takes sparse features as well
    assert [name for name in shared if signature(nn, name) != signature(torch_geometric.nn, name)] == []
