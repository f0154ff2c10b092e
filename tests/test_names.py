"""Names: the closest one, and whether two things are one piece of code."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from contractive_gnn.names import closest, same_code, unknown

CODE = """
from dataclasses import dataclass
from functools import partial

def plain(): ...
def other(): ...
def make(factor):
    def made(x):
        return factor * x
    return made
class Class: ...
ONE, TWO = make(1), make(2)
PART, OTHER_PART = partial(plain, 1, key="a"), partial(plain, 2, key="a")
OTHERS = partial(other, 1, key="a")
"""


@dataclass(frozen=True)
class Row:
    """As tables of schemes or datasets have."""

    code: object
    order: int = 1


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ModuleType]]:
    """One file, imported under two names."""
    path: Path = tmp_path_factory.mktemp("names") / "code.py"
    path.write_text(CODE, "utf-8")
    names = ["first_name_of_it", "second_name_of_it"]
    modules = []
    for name in names:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        modules.append(importlib.util.module_from_spec(spec))
        sys.modules[name] = modules[-1]
        spec.loader.exec_module(modules[-1])
    yield modules
    for name in names:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["plain", "Class", "ONE", "PART"])
def test_a_file_imported_under_two_names_is_one_code(twice: list[ModuleType], name: str) -> None:
    first, second = (getattr(module, name) for module in twice)
    assert first is not second
    assert same_code(first, second)
    assert same_code(Row(first), Row(second))
    assert same_code(partial(first), partial(second))


@pytest.mark.parametrize(
    ("one", "other"),
    [("plain", "other"), ("plain", "Class"), ("ONE", "TWO"), ("PART", "OTHER_PART"), ("PART", "OTHERS")],
)
def test_other_code_is_other_code(twice: list[ModuleType], one: str, other: str) -> None:
    for module in twice:
        assert not same_code(getattr(twice[0], one), getattr(module, other))
        assert not same_code(Row(getattr(twice[0], one)), Row(getattr(module, other)))
    assert not same_code(Row(twice[0].plain, order=1), Row(twice[0].plain, order=2))


def test_what_has_no_source_is_the_same_only_as_itself() -> None:
    assert same_code(len, len)
    assert not same_code(len, print)
    assert not same_code(object(), object())


def test_the_closest_name_does_not_look_at_capitals() -> None:
    assert closest("GCN", ["gcn", "gat"]) == "gcn"
    assert closest("quite-another", ["gcn", "gat"]) is None
    assert unknown("model", ["Gcm", "gta"], ["gat", "gcn"]) == (
        "no model is called 'Gcm', 'gta'. Did you mean 'gcn' and 'gat'? There are: gat, gcn"
    )
