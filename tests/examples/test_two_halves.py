"""The two halves add up, and the turn is tangent to the circles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def test_the_halves_add_up(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("two_halves")
    halves, x = shown["halves"], shown["x"]
    assert halves.residual < 1e-12
    assert torch.allclose(halves.gradient + halves.tangent, shown["lotka_volterra"](x))
    assert float((halves.tangent * x).sum(dim=1).abs().max()) < 1e-12
    assert float(halves.gradient.norm(dim=1).max()) > 0.1
