"""Three kinds of graphs are told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("networkx")


def test_graphs_are_told_apart(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("graph_classification")
    assert len(shown["test"]) == 45
    assert shown["accuracy"] > 0.8
