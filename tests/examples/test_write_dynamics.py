"""The claims of the dynamics hold up to its largest step, and not far beyond it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_claim_holds_up_to_the_largest_step(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("write_dynamics")
    dynamics, longest = shown["dynamics"], shown["dynamics"].max_step(shown["graph"])
    for h, found in zip(shown["steps"], shown["found"], strict=True):
        if h <= longest:
            assert 0.95 * (1 - h * dynamics.mu) < found <= 1 - h * dynamics.mu + 1e-4
    assert shown["found"][-1] > 1
