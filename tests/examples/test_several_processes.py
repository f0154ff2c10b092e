"""Fitting together gives what fitting alone does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_both_curves_are_one(run: Callable[[str], dict[str, Any]]) -> None:
    found = run("several_processes")
    assert max(abs(a - b) for a, b in zip(found["together"], found["by_itself"], strict=True)) < 1e-3
    assert found["distance"] < 1e-4
    assert found["by_itself"][-1] > found["by_itself"][0]
