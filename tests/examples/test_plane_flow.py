"""The moons come apart, by steps that can be undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_moons_come_apart(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("plane_flow")
    assert shown["accuracy"] > 98
    for part in shown["flows"]:
        assert part.field.certified
        assert float(part.step * part.field.field_lipschitz()) < 1
