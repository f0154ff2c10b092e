"""The package reads declared contracts, and looks nothing up by name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from contractive_gnn import certificates, training

FILES = [*Path(training.__path__[0]).glob("*.py"), Path(certificates.__path__[0], "training.py")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_feature_of_a_model_is_looked_up_by_name(file: Path) -> None:
    called = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    assert called or file.name == "__init__.py"
    names = {function.id for function in called if isinstance(function, ast.Name)}
    assert not names & {"hasattr", "getattr", "setattr"}
