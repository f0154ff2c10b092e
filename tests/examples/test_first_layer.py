"""The layer keeps its promise, and the model around it learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_a_change_never_grows(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("first_layer")
    assert shown["accuracy"] > 90
    assert 0.5 < max(shown["ratios"]) <= 1 + 1e-6
