"""A deep wave learns and does not smooth; a deep GCN does both the other way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_a_wave_does_not_oversmooth(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("deep_network")
    assert shown["accuracy"]["wave"] > 90 > 50 > shown["accuracy"]["GCN"]
    assert min(shown["roughness"]["wave"]) > 10 * shown["roughness"]["GCN"][-1]
