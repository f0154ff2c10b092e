"""What says that a package of an extra is missing, wherever one is imported."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from contractive_gnn.extras import MissingExtraError, needs

# Python 3.10 has no tomllib; there pytest brings tomli.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

#: what is imported under another name than it is installed by, or comes with another package
INSTALLED_BY = {
    **{"PIL": "pillow", "vl_convert": "vl-convert-python", "llvmlite": "numba"},
    **{"sklearn": "scikit-learn", "torch_geometric": "torch-geometric"},
}
#: where such a package may be imported without a door of its own, and why
BEHIND_A_DOOR = {
    r"contractive_gnn/bench/\w+\.py": "contractive_gnn.__getattr__ and __main__ are its doors: extra bench",
    r"contractive_gnn/compiled/\w+_loops\.py": "compiled.kernels asks first, and does without",
    r"contractive_gnn/inverse/deepinv_physics\.py": "from_deepinv has asked before",
}


@pytest.fixture(scope="module")
def provided(repository: Path) -> dict[str, set[str]]:
    """The packages that each extra brings."""
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    declared: dict[str, list[str]] = project["optional-dependencies"]

    def of(extra: str) -> Iterator[str]:
        for requirement in declared[extra]:
            if others := re.fullmatch(r"contractive-gnn\[(.*)\]", requirement):
                for other in others[1].split(","):
                    yield from of(other)
            else:
                yield name_of(requirement)

    return {"": {name_of(one) for one in project["dependencies"]}, **{extra: set(of(extra)) for extra in declared}}


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert match is not None
    return match[0]


def imports(tree: ast.AST, doors: tuple[str, ...] = (), *, told: bool = False) -> Iterator[tuple[str, str | None]]:
    """Every imported package of a file with the extra of its door, "" where an absent one is caught, None without."""
    for node in ast.iter_child_nodes(tree):
        within, caught = doors, told
        if isinstance(node, ast.With):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "needs":
                    assert isinstance(call.args[0], ast.Constant)
                    within = (*doors, str(call.args[0].value))
        elif isinstance(node, ast.Try):
            caught = caught or any(
                isinstance(handler.type, ast.Name) and handler.type.id in ("ImportError", "ModuleNotFoundError")
                for handler in node.handlers
            )
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            yield name.partition(".")[0], within[-1] if within else "" if caught else None
        yield from imports(node, within, told=caught)


def test_an_absent_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(MissingExtraError) as caught, needs("bench", "a picture"):
        import aardvark.pictures  # type: ignore[import-not-found]  # noqa: F401
    assert str(caught.value) == "a picture needs aardvark, which is not installed; pip install 'contractive-gnn[bench]'"


def test_an_error_inside_of_a_package_is_its_own() -> None:
    with pytest.raises(ImportError, match="cannot import name 'aardvark'") as caught, needs("bench", "a picture"):
        from json import aardvark  # noqa: F401
    assert not isinstance(caught.value, MissingExtraError)


def test_every_import_of_an_extra_is_behind_a_door_that_names_it(
    repository: Path, provided: dict[str, set[str]]
) -> None:
    """The extra that the error names brings the package, and no import is bare."""
    # what builds the site is imported by its configuration alone
    optional = {package for extra in set(provided) - {"dev", "docs", ""} for package in provided[extra]} - provided[""]
    assert {"matplotlib", "torchattacks", "numba", "torchdiffeq", "safetensors", "deepinv", "optuna"} <= optional
    seen = set()
    for folder in ("contractive_gnn", "attacks", "datasets"):
        for path in (repository / folder).rglob("*.py"):
            where = path.relative_to(repository).as_posix()
            for module, extra in imports(ast.parse(path.read_text("utf-8"))):
                package = INSTALLED_BY.get(module, module)
                if package not in optional:
                    continue
                seen.add(package)
                if extra:
                    assert package in provided[extra], f"{where}: the extra {extra!r} does not bring {package}"
                elif extra is None:
                    doors = [pattern for pattern in BEHIND_A_DOOR if re.fullmatch(pattern, where)]
                    assert doors, f"{where} imports {package}; write it inside of needs(…)"
                    if "bench" in doors[0] and package != "optuna":
                        assert package in provided["bench"], f"{where}: the extra 'bench' does not bring {package}"
    # deeprobust is imported by its name as text
    assert seen == optional - {"deeprobust"}


def test_a_bare_import_is_found() -> None:
    source = "def f():\n    import torchdiffeq\n    with needs('ode', 'x'):\n        import torchdiffeq as t\n"
    caught = "try:\n    from tqdm import tqdm\nexcept ImportError:\n    pass\nif TYPE_CHECKING:\n    import rich\n"
    found = list(imports(ast.parse(source + caught)))
    assert found == [("torchdiffeq", None), ("torchdiffeq", "ode"), ("tqdm", "")]


def asked_for_a_trained_model() -> None:
    from contractive_gnn import load_pretrained

    load_pretrained("gcn", "cora")


def asked_for_continuous_time() -> None:
    from contractive_gnn.integrators import integrate_continuous

    integrate_continuous(lambda y, t: -y, torch.ones(2), total_time=1.0)


def asked_for_a_measurement() -> None:
    from contractive_gnn.inverse import from_deepinv

    from_deepinv(object(), (1, 8, 8))


def asked_for_photographs() -> None:
    from contractive_gnn.datasets.images import load_photographs

    load_photographs("samples")


def asked_for_an_edge_list() -> None:
    from contractive_gnn.datasets.files import networks

    networks.edge_list(b"0 1\n1 2\n", "it", suffix=".txt")


def asked_for_the_cache() -> None:
    from contractive_gnn.datasets.fetch import cache_folder

    cache_folder()


def asked_for_a_page() -> None:
    from contractive_gnn.bench import bundle

    bundle.library.cache_clear()
    bundle.library()


def asked_for_deeprobust() -> None:
    from contractive_gnn.deeprobust import import_deeprobust

    import_deeprobust("graph.defense")


def asked_for_a_search() -> None:
    importlib.import_module("contractive_gnn.bench.tune")


@pytest.mark.parametrize(
    ("ask", "package", "extra"),
    [
        (asked_for_a_trained_model, "safetensors", "bench"),
        (asked_for_continuous_time, "torchdiffeq", "ode"),
        (asked_for_a_measurement, "deepinv", "inverse"),
        (asked_for_photographs, "PIL", "images"),
        (asked_for_an_edge_list, "networkx", "bench"),
        (asked_for_the_cache, "pooch", "bench"),
        (asked_for_a_page, "vl_convert", "bench"),
        (asked_for_deeprobust, "deeprobust", "attacks"),
        (asked_for_a_search, "optuna", "tune"),
    ],
)
def test_who_lacks_it_is_told_the_extra(
    ask: Callable[[], Any], package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "contractive_gnn.bench.tune", raising=False)  # it asks when it is imported
    for name in {package, *(name for name in sys.modules if name.partition(".")[0] == package)}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"{package}.*pip install 'contractive-gnn\[{extra}\]'"):
        ask()
