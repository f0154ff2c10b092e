"""The equation is learned, and the norm is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_an_equation_is_learned(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("learned_pde")
    assert shown["error"] < 0.2
    assert float((shown["norms"] / shown["norms"][:, :1] - 1).abs().max()) < 1e-12
